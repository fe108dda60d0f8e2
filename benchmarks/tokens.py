"""Tokens of all captions of a file: ours against the Stanford PTBTokenizer as pycocoevalcap runs it, time and tokens.

It needs Java. Captions whose tokens differ are printed with both.
"""

import argparse
from pathlib import Path

from comparison import print_seconds, timed
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from showtell.data.caption_files import read_caption_file
from showtell.metrics import tokenize


def main() -> None:
    """Compare on the caption file named on the command line."""
    parser = argparse.ArgumentParser(description="Tokens of captions: ours against the Stanford PTBTokenizer.")
    parser.add_argument("captions", type=Path, help="captions_val2017.json of COCO, Flickr8k.token.txt, or the like")
    texts = [caption for example in read_caption_file(parser.parse_args().captions) for caption in example.captions]
    as_coco = {index: [{"caption": text}] for index, text in enumerate(texts)}

    ours, tokens = timed(lambda: [tokenize(text) for text in texts], 1)
    theirs, their_tokens = timed(lambda: PTBTokenizer().tokenize(as_coco), 1)

    differing = 0
    for index, (text, found) in enumerate(zip(texts, tokens, strict=True)):
        expected = their_tokens[index][0].split()
        if found != expected:
            differing += 1
            print(f"differs\t{text}\tours {' '.join(found)}\tpeer {' '.join(expected)}")
    print_seconds(f"{len(texts)} captions", ours, theirs)
    print(f"equal tokens\t{len(texts) - differing} of {len(texts)}, {1 - differing / len(texts):.3%}")


if __name__ == "__main__":
    main()
