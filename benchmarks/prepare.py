"""Compare `showtell prepare` on 414,000 captions with counting words by `Counter` and `split`.

    python benchmarks/prepare.py captions_val2017.json

The captions of the file are repeated, with other images, up to the number of training captions in COCO 2014.
"""

import json
import sys
import tempfile
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

from _measure import make_parser, print_result, run_process

CAPTIONS = 414_000
CAPTIONS_PER_IMAGE = 5
ROUNDS = 3
PEER = "peer"


def main() -> None:
    """Measure and print. With a second argument, run the peer."""
    if sys.argv[2:] == [PEER]:
        _count_and_encode(Path(sys.argv[1]))
        return
    parser = make_parser(__doc__)
    parser.add_argument("captions", type=Path, help="caption file of COCO")
    source = json.loads(parser.parse_args().captions.read_text())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "captions.json")
        texts = islice(cycle(annotation["caption"] for annotation in source["annotations"]), CAPTIONS)
        annotations = [{"image_id": i // CAPTIONS_PER_IMAGE, "caption": text} for i, text in enumerate(texts)]
        images = [{"id": i, "file_name": f"{i:012}.jpg"} for i in range(CAPTIONS // CAPTIONS_PER_IMAGE)]
        path.write_text(json.dumps({"images": images, "annotations": annotations}))
        ours, peer = [], []
        for number in range(ROUNDS):
            output = str(Path(folder, f"{number}.h5"))
            command = [sys.executable, "-m", "showtell", "prepare", "--captions", str(path), "-o", output]
            ours.append(run_process(command))
            peer.append(run_process([sys.executable, __file__, str(path), PEER]))
    (seconds, memory), (peer_seconds, peer_memory) = sorted(ours)[ROUNDS // 2], sorted(peer)[ROUNDS // 2]
    print_result(
        "`showtell prepare` of 414,000 captions, compared with `Counter` and `split`",
        f"{seconds:.1f} s, {memory:.0f} MB",
        f"{peer_seconds:.1f} s, {peer_memory:.0f} MB",
        f"{peer_seconds / seconds:.1f} x",
    )


def _count_and_encode(path: Path) -> None:
    """Do what a plain script does: count words, keep the most frequent ones, encode and pad every caption."""
    captions = [annotation["caption"].lower().split() for annotation in json.loads(path.read_text())["annotations"]]
    counts = Counter(word for caption in captions for word in caption)
    words = ["<pad>", "<start>", "<end>", "<unk>", *(word for word, _ in counts.most_common(5000))]
    ids = {word: number for number, word in enumerate(words)}
    rows = []
    for caption in captions:
        row = [1, *(ids.get(word, 3) for word in caption[:23]), 2]
        rows.append(row + [0] * (25 - len(row)))
    print(f"{len(rows)} captions")


if __name__ == "__main__":
    main()
