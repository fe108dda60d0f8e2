"""Try thousands of damaged files. Each must give a result or a one-line ShowtellError, in time.

    python tests/fuzz.py [--images 10000] [--other-images 10000] [--captions 10000] [--bundles 10000] [--seed 0]

Each kind runs in its own process. A crash or a hang is counted, and the run continues. The script prints a Markdown row
for each kind. The exit status is 1 if anything other than results and errors occurred, or if memory grew.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
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

from showtell.data import read_caption_file
from showtell.errors import ShowtellError
from showtell.images import Preprocess
from showtell.inference.bundle import Bundle
from showtell.inference.captioner import Captioner
from showtell.inference.confidence import Calibration, FeatureClusters
from showtell.metrics.cider import DocumentFrequencies

ARCHIVE = "the .zip file itself"
MAX_SECONDS = 30.0  # longer is a hang
MAX_GROWTH = 100.0  # MB of memory between a tenth of the cases and the end
MAX_MEMORY = 6 << 30  # bytes of address space, because a damaged model may allocate any amount

STRANGE = (None, True, 0, -1, 1, 2.5, 7, 10**5, 10**9, 10**30, -(10**400), 1e308, float("nan"), float("inf"))
STRANGE += ("", "a", "\0", "\ud800", "x" * 10_000, [], [[]], {}, [0], ["a"], {"a": 0})

# Tries one damaged file. Returns if the file was still valid.
Case = Callable[[np.random.Generator], None]


def mutate(content: bytes, generator: np.random.Generator) -> bytes:
    """Return damaged content: bytes are changed, deleted, inserted or repeated, or the end is cut off."""
    data = bytearray(content)
    for _ in range(int(generator.integers(1, 9))):
        start = int(generator.integers(0, len(data) + 1))
        length = int(generator.integers(1, 1 + min(64, len(data) // 2 + 1)))
        match generator.integers(0, 6):
            case 0 | 1 if start < len(data):
                data[start] = int(generator.integers(0, 256))
            case 2:
                del data[start : start + length]
            case 3:
                data[start:start] = generator.bytes(length)
            case 4:
                data[start:start] = data[start : start + length]
            case 5 if generator.random() < 0.2:
                del data[start:]
    return bytes(data)


def alter_json(content: bytes, generator: np.random.Generator) -> bytes:
    """Return valid JSON in which one value is replaced or removed."""
    root = [json.loads(content)]
    values: list[tuple[Any, Any]] = []
    containers: list[Any] = [root]
    while containers:
        container = containers.pop()
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            values.append((container, key))
            if isinstance(container[key], dict | list):
                containers.append(container[key])
    container, key = values[generator.integers(len(values))]
    if generator.random() < 0.1 and container is not root:
        del container[key]
    else:
        container[key] = STRANGE[generator.integers(len(STRANGE))]
    return json.dumps(root[0]).encode()


def image_case(folder: Path) -> Case:
    """Decode damaged JPEG, PNG and WebP files with various metadata, colour modes and frames."""
    image = zoo.photo(96)
    transparent = image.convert("RGBA")
    transparent.putalpha(image.convert("L"))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    files = [zoo.encode(image, name, exif=exif) for name in ("JPEG", "PNG", "WEBP")]
    files += [
        zoo.encode(image, "JPEG", progressive=True),
        zoo.encode(image.convert("CMYK"), "JPEG"),
        zoo.encode(image.convert("P"), "PNG"),
        zoo.encode(transparent, "PNG"),
        zoo.encode(transparent, "WEBP", lossless=True),
        zoo.encode(image, "WEBP", save_all=True, append_images=[image.rotate(90)]),
    ]
    return _decoding_case(files)


def other_image_case(folder: Path) -> Case:
    """Decode damaged files of the other formats."""
    image = zoo.photo(96)
    Image.init()
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    formats = [name for name in ("GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "AVIF") if name in Image.SAVE]
    files = [
        *(zoo.encode(image, name) for name in formats),
        zoo.encode(image, "TIFF", compression="tiff_lzw"),
        zoo.encode(image, "TIFF", compression="jpeg"),
        zoo.encode(deep, "TIFF", compression="tiff_deflate"),
        zoo.encode(image, "GIF", save_all=True, append_images=[image.rotate(90)]),
    ]
    return _decoding_case(files)


def _decoding_case(files: Sequence[bytes]) -> Case:
    preprocess = Preprocess()

    def case(generator: np.random.Generator) -> None:
        assert preprocess.load(mutate(files[generator.integers(len(files))], generator)).shape == (224, 224, 3)

    return case


def caption_case(folder: Path) -> Case:
    """Read damaged caption files of all formats."""
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


def bundle_case(folder: Path) -> Case:
    """Load damaged bundles, mostly with correct checksums, and caption an image with them."""
    plain = Bundle.load(save_looking_bundle(folder / "tiny", LOOKING_GRAPHS))
    clusters = FeatureClusters(np.zeros(1), np.eye(1))
    calibration = Calibration(50.0, clusters, np.zeros(3), distance_threshold=0.4, decay=0.1)
    optional_files = {
        "calibration.json": calibration.to_json().encode(),
        "document_frequencies.json": DocumentFrequencies(3, {"a": 2, "a dog": 1}).to_json().encode(),
    }
    bundle = replace(plain, files={**plain.files, **optional_files})
    image = zoo.encode(zoo.photo(96))

    def case(generator: np.random.Generator) -> None:
        names = sorted({*bundle.files, "bundle.json", ARCHIVE} - {"MODEL_CARD.md"})
        name = names[generator.integers(len(names))]
        damage = alter_json if name.endswith(".json") and generator.random() < 0.7 else mutate
        path = folder / f"damaged{generator.integers(1 << 62)}.zip"
        try:
            if name == "bundle.json":
                path = path.with_suffix("")
                bundle.save(path)
                (path / name).write_bytes(damage((path / name).read_bytes(), generator))
            elif name == ARCHIVE:
                bundle.save(path)
                path.write_bytes(mutate(path.read_bytes(), generator))
            else:
                files = {**bundle.files, name: damage(bundle.files[name], generator)}
                replace(bundle, files=files).save(path)
            loaded = Bundle.load(path)
            (result,) = Captioner([loaded]).caption([image])
            assert loaded.document_frequencies
            assert result.error is not None or result.captions[0].text is not None
        finally:
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)

    return case


def faulty_case(folder: Path) -> Case:
    """Fail, to test this script: case 1 raises an exception, case 2 crashes."""
    number = -1

    def case(generator: np.random.Generator) -> None:
        nonlocal number
        number += 1
        if number == 1:
            raise ZeroDivisionError
        if number == 2:
            os.abort()

    return case


KINDS = {
    "images": image_case,
    "other_images": other_image_case,
    "captions": caption_case,
    "bundles": bundle_case,
}
CASES = {**KINDS, "faulty": faulty_case}


def main() -> None:
    """Run the kinds of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in KINDS:
        parser.add_argument(f"--{kind.replace('_', '-')}", type=int, default=10_000, help="default: 10000")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    arguments = vars(parser.parse_args())
    print("| files | tried | still valid | refused | anything else | slowest | memory at start, peak, end |")
    print("|---|---|---|---|---|---|---|")
    failures = 0
    for kind in KINDS:
        outcome = run(kind, arguments[kind], arguments["seed"])
        print(outcome.row(), flush=True)
        for failure in outcome.failures[:20]:
            print(failure, file=sys.stderr, flush=True)
        failures += len(outcome.failures)
    sys.exit(1 if failures else 0)


class Outcome:
    """The results of the cases of one kind.

    Attributes:
        kind: a key of CASES.
        valid: number of files that were still valid.
        refused: number of files that gave a ShowtellError.
        failures: everything else, a line each.
        slowest: the longest time of a case in seconds.
        memory: memory of the process after each case, in MB.
    """

    def __init__(self, kind: str):
        self.kind = kind
        self.valid = self.refused = 0
        self.failures: list[str] = []
        self.slowest = 0.0
        self.memory: list[float] = []

    def growth(self) -> float:
        """Return the growth of memory, in MB, from a tenth of the cases to the end."""
        return self.memory[-1] - self.memory[len(self.memory) // 10] if self.memory else 0.0

    def row(self) -> str:
        """Return a Markdown table row."""
        tried = self.valid + self.refused + len(self.failures)
        memory = self.memory or [0.0]
        cells = [f"{tried:,}", f"{self.valid:,}", f"{self.refused:,}", len(self.failures), f"{self.slowest:.2f} s"]
        cells.append(f"{memory[0]:.0f}, {max(memory):.0f}, {memory[-1]:.0f} MB")
        return f"| {self.kind.replace('_', ' ')} | {' | '.join(map(str, cells))} |"


def run(kind: str, count: int, seed: int) -> Outcome:
    """Try cases of one kind.

    Args:
        kind: a key of CASES.
        count: number of cases.
        seed: seed of the damage.
    """
    outcome = Outcome(kind)
    context = multiprocessing.get_context("spawn")
    number = 0
    while number < count:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_run_cases, args=(kind, number, count, seed, sender))
        process.start()
        sender.close()
        for result, seconds, memory in _receive(receiver):
            number += 1
            outcome.slowest = max(outcome.slowest, seconds)
            outcome.memory.append(memory)
            if result in ("valid", "refused"):
                setattr(outcome, result, getattr(outcome, result) + 1)
            else:
                outcome.failures.append(f"{kind} {number - 1}: {result}")
        if number < count:
            process.join(2)
            hangs = process.is_alive()
            process.kill()
            process.join()
            outcome.failures.append(f"{kind} {number}: {'hangs' if hangs else f'crashes ({process.exitcode})'}")
            number += 1
        process.join()
    if outcome.growth() > MAX_GROWTH:
        outcome.failures.append(f"{kind}: memory grew by {outcome.growth():.0f} MB")
    return outcome


def _receive(connection: Connection) -> Iterator[tuple[str, float, float]]:
    try:
        while connection.poll(MAX_SECONDS):
            yield connection.recv()
    except EOFError:
        pass


def _run_cases(kind: str, first: int, count: int, seed: int, connection: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # libtiff reports damage there
    with tempfile.TemporaryDirectory() as folder:
        case = CASES[kind](Path(folder))
        for number in range(first, count):
            began = time.perf_counter()
            result = "valid"
            try:
                case(np.random.default_rng([seed, number]))
            except ShowtellError as error:
                result = "refused" if "\n" not in str(error) else f"message of several lines: {error!r}"[:200]
            except BaseException as error:
                result = repr(error)[:200]
            connection.send((result, time.perf_counter() - began, _resident_memory()))


def _resident_memory() -> float:
    """Return the resident memory of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
