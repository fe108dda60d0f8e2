"""CIDEr of a few images: with the document frequencies of other images against with their own.

Of a caption file with training and validation images, 1,000 random training images stand for a test set: the first
caption of each is the candidate, the others are its references. The CIDEr of a few of them should be what the same
captions have within that set. How far it is off, over 50 random choices, is printed for the frequencies of the
validation images, which a bundle carries, and for those of the few images themselves.
"""

import argparse
from pathlib import Path

import numpy as np

from showtell.data.caption_files import read_caption_file
from showtell.metrics import CiderD, DocumentFrequencies, tokenize

CHOICES = 50


def main() -> None:
    """Measure on the caption file named on the command line."""
    parser = argparse.ArgumentParser(description="CIDEr of a few images with two kinds of document frequencies.")
    parser.add_argument("captions", type=Path, help="Flickr8k.token.txt beside its lists, Karpathy's JSON, or the like")
    examples = read_caption_file(parser.parse_args().captions)
    training, validation = (
        [[tokenize(caption) for caption in example.captions] for example in examples if example.split == split]
        for split in ("train", "val")
    )
    random = np.random.default_rng(0)
    tokens = [training[row] for row in random.choice(len(training), 1000, replace=False)]
    candidates, references = [first for first, *_ in tokens], [others for _, *others in tokens]
    wanted = CiderD(references).score(candidates)
    of_others = DocumentFrequencies.from_references(validation)
    for images in (5, 20, 50, 100, 200, 500):
        off: dict[str, list[float]] = {"others'": [], "own": []}
        for _ in range(CHOICES):
            rows = random.choice(len(tokens), images, replace=False)
            chosen, theirs = [candidates[row] for row in rows], [references[row] for row in rows]
            for name, frequencies in (("others'", of_others), ("own", None)):
                found = CiderD(theirs, frequencies).score(chosen).mean()
                off[name].append(100 * (found - wanted[rows].mean()))
        ours, peer = (np.abs(values).mean() for values in off.values())
        print(f"{images} images\tours {ours:.1f} off\tpeer {peer:.1f} off\t{peer / ours:.1f} times as near")


if __name__ == "__main__":
    main()
