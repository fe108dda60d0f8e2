"""Compare CIDEr of few images with document frequencies of other images and with their own.

    python benchmarks/few_images.py Flickr8k.token.txt

1,000 random training images stand for a test set. The first caption of each is the candidate; the others are its
references. CIDEr of a few of them should equal the CIDEr of the same captions within the whole set. The script prints
the mean absolute deviation over 50 random choices, with the document frequencies of the validation images, as a bundle
contains them, and with those of the few images themselves.
"""

from pathlib import Path

import numpy as np
from _measure import make_parser, print_result

from showtell.data import read_caption_file
from showtell.metrics import CiderD, DocumentFrequencies, tokenize

TEST_IMAGES = 1000
CHOICES = 50


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("captions", type=Path, help="caption file with training and validation images")
    examples = read_caption_file(parser.parse_args().captions)
    training, validation = (
        [[tokenize(caption) for caption in example.captions] for example in examples if example.split == split]
        for split in ("train", "val")
    )
    generator = np.random.default_rng(0)
    tokens = [training[row] for row in generator.choice(len(training), TEST_IMAGES, replace=False)]
    candidates, references = [first for first, *_ in tokens], [others for _, *others in tokens]
    expected = CiderD(references).score(candidates)
    validation_frequencies = DocumentFrequencies.from_references(validation)
    for images in (5, 20, 50, 100, 200, 500):
        deviations: dict[str, list[float]] = {"others": [], "own": []}
        for _ in range(CHOICES):
            rows = generator.choice(len(tokens), images, replace=False)
            chosen, chosen_references = [candidates[row] for row in rows], [references[row] for row in rows]
            for name, frequencies in (("others", validation_frequencies), ("own", None)):
                score = CiderD(chosen_references, frequencies).score(chosen).mean()
                deviations[name].append(100 * abs(score - expected[rows].mean()))
        others, own = (np.mean(values) for values in deviations.values())
        print_result(f"deviation of CIDEr of {images} images", f"{others:.1f}", f"{own:.1f}", f"1/{own / others:.1f}")


if __name__ == "__main__":
    main()
