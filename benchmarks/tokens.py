"""Compare the tokens of all captions of a file with the Stanford PTBTokenizer as pycocoevalcap runs it.

    python benchmarks/tokens.py Flickr8k.token.txt

It needs Java. Captions with different tokens are printed with both.
"""

from pathlib import Path

from _measure import make_parser, print_result, time_alternately
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from showtell.data import read_caption_file
from showtell.metrics import tokenize


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("captions", type=Path, help="caption file in any format that `showtell prepare` reads")
    texts = [caption for example in read_caption_file(parser.parse_args().captions) for caption in example.captions]
    coco_captions = {index: [{"caption": text}] for index, text in enumerate(texts)}

    seconds = time_alternately(
        {
            "ours": lambda: [tokenize(text) for text in texts],
            "peer": lambda: PTBTokenizer().tokenize(coco_captions),
        },
        rounds=1,
    )
    peer_tokens = PTBTokenizer().tokenize(coco_captions)
    differing = 0
    for index, text in enumerate(texts):
        ours, peer = tokenize(text), peer_tokens[index][0].split()
        if ours != peer:
            differing += 1
            print(f"differs: {text!r}\n  showtell: {' '.join(ours)}\n  peer: {' '.join(peer)}")
    ratio = f"{seconds['peer'] / seconds['ours']:.1f} x"
    print_result(f"tokens of {len(texts):,} captions", f"{seconds['ours']:.2f} s", f"{seconds['peer']:.2f} s", ratio)
    print_result(
        "captions with equal tokens", f"{len(texts) - differing}", f"{len(texts)}", f"{1 - differing / len(texts):.3%}"
    )


if __name__ == "__main__":
    main()
