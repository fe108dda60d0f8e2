"""Damaged caption files of all formats."""

import json
from pathlib import Path

import numpy as np
from byte_mutator import alter_json, mutate
from runner import Case

from showtell.data import read_caption_file


def caption_case(folder: Path) -> Case:
    """Read caption files with damaged bytes or strange values."""
    names = [f"{number}.jpg" for number in range(4)]
    texts = ["a dog runs", "two men, one dog", '"quoted" words; and more', "été, 狗"]
    pairs = list(zip(names, texts, strict=True))
    files = {
        "coco.json": json.dumps(
            {
                "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
                "annotations": [{"image_id": number, "caption": text} for number, text in enumerate(texts)],
            }
        ),
        "karpathy.json": json.dumps(
            {"images": [{"filename": name, "split": "val", "sentences": [{"raw": text}]} for name, text in pairs]}
        ),
        "flickr.txt": "".join(f"{name}#0\t{text}\n" for name, text in pairs),
        "table.csv": "file_name,caption,split\n" + "".join(f"{name},a dog,train\n" for name in names),
        "table.tsv": "file_name\tcaption\n" + "".join(f"{name}\t{text}\n" for name, text in pairs),
        "lines.jsonl": "".join(json.dumps({"file_name": name, "text": text}) + "\n" for name, text in pairs),
    }

    def case(generator: np.random.Generator) -> None:
        name = sorted(files)[generator.integers(len(files))]
        damage = alter_json if name.endswith(".json") and generator.random() < 0.5 else mutate
        (folder / name).write_bytes(damage(files[name].encode(), generator))
        assert read_caption_file(folder / name)

    return case
