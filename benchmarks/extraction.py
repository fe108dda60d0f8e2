"""Compare feature extraction by Inception V3 with Keras' `predict` on one image at a time.

    python benchmarks/extraction.py [FOLDER]

The network has random weights, which does not change its speed.
"""

import tempfile
from itertools import count, cycle, islice
from pathlib import Path

import numpy as np
from _measure import EXAMPLES, make_parser, print_result, time_alternately
from PIL import Image

IMAGES = 100


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=EXAMPLES, help="photos, repeated; default: examples/")
    folder = parser.parse_args().folder
    import keras

    from showtell.data import extract_features
    from showtell.images import find_images
    from showtell.recipe import EncoderConfig
    from showtell.training.encoders import load_encoder

    images = [(str(number), path) for number, path in enumerate(islice(cycle(find_images([folder])), IMAGES))]
    encoder = load_encoder(EncoderConfig("inception_v3", "none"))
    network = keras.applications.InceptionV3(weights=None, include_top=False, pooling="avg")
    numbers = count()

    def predict_one_by_one() -> None:
        for _, path in images:
            pixels = np.asarray(Image.open(path).convert("RGB").resize((299, 299)), np.float32)
            network.predict(keras.applications.inception_v3.preprocess_input(pixels[None]), verbose=0)

    with tempfile.TemporaryDirectory() as output:
        seconds = time_alternately(
            {
                "ours": lambda: extract_features(images, encoder, Path(output, f"{next(numbers)}.npy")),
                "peer": predict_one_by_one,
            },
            rounds=3,
        )
    print_result(
        "extraction with Inception V3, compared with `predict` on one image at a time",
        f"{len(images) / seconds['ours']:.1f} images/s",
        f"{len(images) / seconds['peer']:.1f} images/s",
        f"{seconds['peer'] / seconds['ours']:.1f} x",
    )


if __name__ == "__main__":
    main()
