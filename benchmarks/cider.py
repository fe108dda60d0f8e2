"""Compare CIDEr-D of 5,000 captions with pycocoevalcap: duration and scores.

    python benchmarks/cider.py captions_val2017.json

The first caption of each image is the candidate; the others are its references. Both programs get the same tokens.
"prepared" scores captions against references that were prepared before, as self-critical training does in each step.
"unprepared" prepares them too, as pycocoevalcap does in each call.
"""

from pathlib import Path

import numpy as np
from _measure import make_parser, print_result, time_alternately
from pycocoevalcap.cider.cider import Cider

from showtell.data import read_caption_file
from showtell.metrics import CiderD, tokenize

MAX_CAPTIONS = 5000


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("captions", type=Path, help="caption file in any format that `showtell prepare` reads")
    examples = read_caption_file(parser.parse_args().captions)
    tokens = [[tokenize(caption) for caption in example.captions] for example in examples if len(example.captions) > 1]
    candidates = [first for first, *_ in tokens[:MAX_CAPTIONS]]
    references = [others for _, *others in tokens[:MAX_CAPTIONS]]
    peer_candidates = {index: [" ".join(caption)] for index, caption in enumerate(candidates)}
    peer_references = {index: [" ".join(caption) for caption in captions] for index, captions in enumerate(references)}

    metric = CiderD(references)
    seconds = time_alternately(
        {
            "prepared": lambda: metric.score(candidates),
            "unprepared": lambda: CiderD(references).score(candidates),
            "peer": lambda: Cider().compute_score(peer_references, peer_candidates),
        }
    )
    for name in ("prepared", "unprepared"):
        ratio = f"{seconds['peer'] / seconds[name]:.1f} x"
        title = f"CIDEr-D of {len(candidates):,} captions, {name}"
        print_result(title, f"{seconds[name]:.4f} s", f"{seconds['peer']:.4f} s", ratio)
    scores, (_, peer_scores) = metric.score(candidates), Cider().compute_score(peer_references, peer_candidates)
    print_result("CIDEr-D", f"{100 * scores.mean():.6f}", f"{100 * np.mean(peer_scores):.6f}")
    print_result("largest difference of a caption's score", f"{np.abs(scores - peer_scores).max():.1e}")


if __name__ == "__main__":
    main()
