"""`showtell prepare` on 414,000 captions, against counting words with `Counter` and `split`.

The captions are those of the file given, over and over with other images, as many as COCO 2014 has for training.

python benchmarks/prepare.py captions_val2017.json
"""

import json
import sys
import tempfile
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

from _measure import run, tell

CAPTIONS = 414_000


def main() -> None:
    """Measure and print; as a program with a second argument, be the peer."""
    if len(sys.argv) > 2:
        _count_and_index(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "captions.json")
        texts = [annotation["caption"] for annotation in json.loads(Path(sys.argv[1]).read_text())["annotations"]]
        annotations = [{"image_id": i // 5, "caption": text} for i, text in enumerate(islice(cycle(texts), CAPTIONS))]
        images = [{"id": number, "file_name": f"{number:012}.jpg"} for number in range(CAPTIONS // 5)]
        path.write_text(json.dumps({"images": images, "annotations": annotations}))
        ours, theirs = [], []
        for number in range(3):
            output = str(Path(folder, f"{number}.h5"))
            ours.append(run([sys.executable, "-m", "showtell", "prepare", "--captions", str(path), "-o", output]))
            theirs.append(run([sys.executable, __file__, str(path), "peer"]))
    (seconds, memory), (other, held) = sorted(ours)[1], sorted(theirs)[1]
    tell(
        "`showtell prepare` of 414,000 captions, against Counter and split",
        f"{seconds:.1f} s, {memory:.0f} MB",
        f"{other:.1f} s, {held:.0f} MB",
        f"{other / seconds:.1f} x",
        "1 x, 1 GB",
    )


def _count_and_index(path: Path) -> None:
    """Do what a script does: count the words, keep the most frequent, index and pad every caption."""
    began = time.perf_counter()
    captions = [annotation["caption"].lower().split() for annotation in json.loads(path.read_text())["annotations"]]
    counted = Counter(word for caption in captions for word in caption)
    words = ["<pad>", "<start>", "<end>", "<unk>", *(word for word, _ in counted.most_common(5000))]
    numbers = {word: number for number, word in enumerate(words)}
    rows = []
    for caption in captions:
        row = [1, *(numbers.get(word, 3) for word in caption[:23]), 2]
        rows.append(row + [0] * (25 - len(row)))
    print(f"{len(rows)} captions in {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
