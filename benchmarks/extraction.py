"""Features of Inception V3 from JPEG files: `extract_features` against Keras' `predict`, one image after the other.

The network has random weights, which take as long as learnt ones.

python benchmarks/extraction.py [FOLDER]     by default the photographs of examples/, over and over
"""

import sys
import tempfile
from itertools import count, cycle, islice
from pathlib import Path

import keras
import numpy as np
from _measure import interleaved, tell
from PIL import Image

from showtell.data import extract_features
from showtell.images import find_images
from showtell.recipe import EncoderConfig
from showtell.training.encoders import load_encoder

IMAGES = 100


def main() -> None:
    """Measure and print."""
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "examples")
    images = [(str(number), path) for number, path in enumerate(islice(cycle(find_images([source])), IMAGES))]
    encoder = load_encoder(EncoderConfig("inception_v3", "none"))
    network = keras.applications.InceptionV3(weights=None, include_top=False, pooling="avg")
    numbers = count()

    def one_by_one() -> None:
        for _, path in images:
            pixels = np.asarray(Image.open(path).convert("RGB").resize((299, 299)), np.float32)
            network.predict(keras.applications.inception_v3.preprocess_input(pixels[None]), verbose=0)

    with tempfile.TemporaryDirectory() as folder:
        seconds = interleaved(
            {
                "ours": lambda: extract_features(images, encoder, Path(folder, f"{next(numbers)}.npy")),
                "theirs": one_by_one,
            },
            rounds=3,
        )
    tell(
        "extraction with Inception V3, against predict on one image at a time",
        f"{len(images) / seconds['ours']:.1f} images/s",
        f"{len(images) / seconds['theirs']:.1f} images/s",
        f"{seconds['theirs'] / seconds['ours']:.1f} x",
        "2 x, aim 3 x",
    )


if __name__ == "__main__":
    main()
