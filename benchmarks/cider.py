"""CIDEr-D of 5,000 captions: ours against pycocoevalcap, time and scores.

The captions are made of a caption file: the first caption of each image is the candidate, the others are its
references. Both are given the same tokens. "prepared" scores captions against references that were prepared before, as
self-critical training does at each step; "unprepared" prepares them too, as pycocoevalcap does at each call.
"""

import argparse
from pathlib import Path

import numpy as np
from comparison import print_seconds, timed
from pycocoevalcap.cider.cider import Cider

from showtell.data.caption_files import read_caption_file
from showtell.metrics import CiderD, tokenize

CAPTIONS = 5000


def main() -> None:
    """Measure on the caption file named on the command line."""
    parser = argparse.ArgumentParser(description="CIDEr-D of 5,000 captions: ours against pycocoevalcap.")
    parser.add_argument("captions", type=Path, help="captions_val2017.json of COCO, Flickr8k.token.txt, or the like")
    examples = [example for example in read_caption_file(parser.parse_args().captions) if len(example.captions) > 1][
        :CAPTIONS
    ]
    tokens = [[tokenize(caption) for caption in example.captions] for example in examples]
    candidates, references = [first for first, *_ in tokens], [others for _, *others in tokens]
    their_candidates = {index: [" ".join(caption)] for index, caption in enumerate(candidates)}
    their_references = {index: [" ".join(caption) for caption in captions] for index, captions in enumerate(references)}

    prepared = CiderD(references)
    ours, scores = timed(lambda: prepared.score(candidates), 9)
    unprepared, _ = timed(lambda: CiderD(references).score(candidates), 5)
    theirs, (_, their_scores) = timed(lambda: Cider().compute_score(their_references, their_candidates), 3)

    print(f"captions\t{len(candidates)}, of {sum(map(len, references))} references")
    print_seconds("prepared", ours, theirs)
    print_seconds("unprepared", unprepared, theirs)
    print(f"largest difference of a caption's score\t{np.abs(scores - their_scores).max():.1e}")
    print(f"CIDEr-D\tours {100 * scores.mean():.6f}\tpeer {100 * np.mean(their_scores):.6f}")


if __name__ == "__main__":
    main()
