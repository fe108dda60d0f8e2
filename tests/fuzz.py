"""Damaged files by the thousand: whatever is in them, showtell answers with a result or with a ShowtellError, and soon.

    python tests/fuzz.py [--images 10000] [--other-images 10000] [--captions 10000] [--bundles 10000] [--seed 0]

Each kind is tried in a process of its own, which is watched: a crash or a hang is counted, and the rest goes on. It
prints a row of Markdown for each kind, and ends with exit status 1 if anything but results and errors came out, or if
memory has grown.
"""

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import zoo
from helpers import LOOKING_GRAPHS, save_looking_bundle
from PIL import ExifTags, Image

from showtell.data import caption_files as captions
from showtell.errors import ShowtellError
from showtell.images import Preprocess
from showtell.inference.bundle import Bundle
from showtell.inference.captioner import Captioner
from showtell.inference.confidence import Calibration, FeatureClusters
from showtell.metrics import DocumentFrequencies

ARCHIVE = "the .zip file itself"
HANG = 30.0  # seconds
GROWTH = 100.0  # MB that a process may hold more at its end than when a tenth was done
MEMORY = 6 << 30  # bytes that a process may address; a model may ask for any amount

STRANGE = (None, True, 0, -1, 1, 2.5, 7, 10**5, 10**9, 10**30, -(10**400), 1e308, float("nan"), float("inf"))
STRANGE += ("", "a", "\0", "\ud800", "x" * 10_000, [], [[]], {}, [0], ["a"], {"a": 0})

# Tries a case; tells whether the file was still good.
Case = Callable[[np.random.Generator], bool]


def mutated(content: bytes, generator: np.random.Generator) -> bytes:
    """Return the content with some damage: bytes changed, cut out, put in, repeated, or the end cut off."""
    data = bytearray(content)
    for _ in range(int(generator.integers(1, 9))):
        place = int(generator.integers(0, len(data) + 1))
        length = int(generator.integers(1, 1 + min(64, len(data) // 2 + 1)))
        match generator.integers(0, 6):
            case 0 | 1 if place < len(data):
                data[place] = int(generator.integers(0, 256))
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = generator.bytes(length)
            case 4:
                data[place:place] = data[place : place + length]
            case 5 if generator.random() < 0.2:
                del data[place:]
    return bytes(data)


def altered(content: bytes, generator: np.random.Generator) -> bytes:
    """Return JSON that is whole, but for a value that is another, or is gone."""
    root = [json.loads(content)]
    places: list[tuple[Any, Any]] = []
    found: list[Any] = [root]
    while found:
        holder = found.pop()
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            places.append((holder, key))
            if isinstance(holder[key], dict | list):
                found.append(holder[key])
    holder, key = places[generator.integers(len(places))]
    if generator.random() < 0.1 and holder is not root:
        del holder[key]
    else:
        holder[key] = STRANGE[generator.integers(len(STRANGE))]
    return json.dumps(root[0]).encode()


def image_case(folder: Path) -> Case:
    """Decode damaged JPEG, PNG and WebP files, with the metadata, colours and frames that each may have."""
    picture = zoo.photograph(96)
    clear = picture.convert("RGBA")
    clear.putalpha(picture.convert("L"))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    files = [zoo.encoded(picture, name, exif=exif) for name in ("JPEG", "PNG", "WEBP")]
    files += [
        zoo.encoded(picture, "JPEG", progressive=True),
        zoo.encoded(picture.convert("CMYK"), "JPEG"),
        zoo.encoded(picture.convert("P"), "PNG"),
        zoo.encoded(clear, "PNG"),
        zoo.encoded(clear, "WEBP", lossless=True),
        zoo.encoded(picture, "WEBP", save_all=True, append_images=[picture.rotate(90)]),
    ]
    return _decoding(files)


def other_image_case(folder: Path) -> Case:
    """Decode damaged files of the other formats."""
    picture = zoo.photograph(96)
    Image.init()
    deep = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    files = [
        zoo.encoded(picture, name) for name in ("GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "AVIF") if name in Image.SAVE
    ]
    files += [
        zoo.encoded(picture, "TIFF", compression="tiff_lzw"),
        zoo.encoded(picture, "TIFF", compression="jpeg"),
        zoo.encoded(deep, "TIFF", compression="tiff_deflate"),
        zoo.encoded(picture, "GIF", save_all=True, append_images=[picture.rotate(90)]),
    ]
    return _decoding(files)


def _decoding(files: Sequence[bytes]) -> Case:
    preprocess = Preprocess()

    def case(generator: np.random.Generator) -> bool:
        assert preprocess.load(mutated(files[generator.integers(len(files))], generator)).shape == (224, 224, 3)
        return True

    return case


def caption_case(folder: Path) -> Case:
    """Read damaged caption files of every format."""
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

    def case(generator: np.random.Generator) -> bool:
        name = sorted(files)[generator.integers(len(files))]
        damage = altered if name.endswith(".json") and generator.random() < 0.5 else mutated
        (folder / name).write_bytes(damage(files[name].encode(), generator))
        assert captions.read_caption_file(folder / name)
        return True

    return case


def bundle_case(folder: Path) -> Case:
    """Load bundles that are damaged, mostly a file whose checksum fits, and caption with them."""
    tiny = save_looking_bundle(folder / "tiny", LOOKING_GRAPHS)
    # It gets what else a bundle may have, of few numbers.
    plain = Bundle.load(tiny)
    familiarity = FeatureClusters(np.zeros(1), np.eye(1))
    extra = {
        "calibration.json": Calibration(50.0, familiarity, np.zeros(3), distance_threshold=0.4, decay=0.1)
        .to_json()
        .encode(),
        "document_frequencies.json": DocumentFrequencies(3, {"a": 2, "a dog": 1}).to_json().encode(),
    }
    bundle = replace(plain, files={**plain.files, **extra})
    picture = zoo.encoded(zoo.photograph(96))

    def case(generator: np.random.Generator) -> bool:
        names = sorted({*bundle.files, "bundle.json", ARCHIVE} - {"MODEL_CARD.md"})
        name = names[generator.integers(len(names))]
        damage = altered if name.endswith(".json") and generator.random() < 0.7 else mutated
        target = folder / f"damaged{generator.integers(1 << 62)}.zip"
        try:
            if name == "bundle.json":
                bundle.save(target.with_suffix(""))
                manifest = target.with_suffix("") / name
                manifest.write_bytes(damage(manifest.read_bytes(), generator))
                target = target.with_suffix("")
            elif name == ARCHIVE:
                bundle.save(target)
                target.write_bytes(mutated(target.read_bytes(), generator))
            else:
                files = {**bundle.files, name: damage(bundle.files[name], generator)}
                replace(bundle, files=files).save(target)
            loaded = Bundle.load(target)
            (result,) = Captioner([loaded]).caption([picture])
            assert loaded.document_frequencies
            assert result.error is not None or result.captions[0].text is not None
        finally:
            _remove(target)
        return True

    return case


def mistaken_case(folder: Path) -> Case:
    """Do what none of the others may do, to try the harness itself: case 1 raises, case 2 crashes."""
    number = -1

    def case(generator: np.random.Generator) -> bool:
        nonlocal number
        number += 1
        if number == 1:
            raise ZeroDivisionError
        if number == 2:
            os.abort()
        return True

    return case


KINDS = {
    "images": image_case,
    "other_images": other_image_case,
    "captions": caption_case,
    "bundles": bundle_case,
}
CASES = {**KINDS, "mistakes": mistaken_case}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in KINDS:
        parser.add_argument(f"--{kind.replace('_', '-')}", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = vars(parser.parse_args())
    print("| files | tried | still good | refused | anything else | slowest | memory at start, most, end |")
    print("|---|---|---|---|---|---|---|")
    wrong = 0
    for kind in KINDS:
        found = run(kind, arguments[kind], arguments["seed"])
        print(found.row(), flush=True)
        for line in found.wrong[:20]:
            print(line, file=sys.stderr, flush=True)
        wrong += len(found.wrong)
    sys.exit(1 if wrong else 0)


class Found:
    """What came of the cases of a kind."""

    def __init__(self, kind: str):
        self.kind = kind
        self.good = self.refused = 0
        self.wrong: list[str] = []
        self.slowest = 0.0
        self.memory: list[float] = []

    def grown(self) -> float:
        """Return how much more memory, in MB, was held at the end than when a tenth was done."""
        return self.memory[-1] - self.memory[len(self.memory) // 10] if self.memory else 0.0

    def row(self) -> str:
        """Return it as a row of the table."""
        tried = self.good + self.refused + len(self.wrong)
        held = self.memory or [0.0]
        memory = f"{held[0]:.0f}, {max(held):.0f}, {held[-1]:.0f} MB"
        cells = (f"{tried:,}", f"{self.good:,}", f"{self.refused:,}", len(self.wrong), f"{self.slowest:.2f} s", memory)
        return f"| {self.kind.replace('_', ' ')} | {' | '.join(map(str, cells))} |"


def run(kind: str, count: int, seed: int) -> Found:
    """Try so many cases; the same seed gives the same ones."""
    found = Found(kind)
    context = multiprocessing.get_context("spawn")
    number = 0
    while number < count:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(kind, number, count, seed, there))
        process.start()
        there.close()
        for outcome, seconds, held in _heard(here):
            number += 1
            found.slowest = max(found.slowest, seconds)
            found.memory.append(held)
            if outcome in ("good", "refused"):
                setattr(found, outcome, getattr(found, outcome) + 1)
            else:
                found.wrong.append(f"{kind} {number - 1}: {outcome}")
        if number < count:
            process.join(2)
            hangs = process.is_alive()
            process.kill()
            process.join()
            found.wrong.append(f"{kind} {number}: {'hangs' if hangs else f'crashes ({process.exitcode})'}")
            number += 1
        process.join()
    if found.grown() > GROWTH:
        found.wrong.append(f"{kind}: its memory has grown by {found.grown():.0f} MB")
    return found


def _heard(connection: Connection) -> Iterator[tuple[str, float, float]]:
    try:
        while connection.poll(HANG):
            yield connection.recv()
    except EOFError:
        pass


def _work(kind: str, first: int, count: int, seed: int, connection: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # libtiff tells of each damage there
    with tempfile.TemporaryDirectory() as folder:
        case = CASES[kind](Path(folder))
        for number in range(first, count):
            began = time.perf_counter()
            outcome = "good"
            try:
                case(np.random.default_rng([seed, number]))
            except ShowtellError as error:
                outcome = "refused" if "\n" not in str(error) else f"several lines: {error!r}"[:200]
            except BaseException as error:
                outcome = repr(error)[:200]
            connection.send((outcome, time.perf_counter() - began, _resident()))


def _resident() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _remove(path: Path) -> None:
    if path.is_dir():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
