"""A data set of COCO's size, or of another, from prepare to export: time, memory and disk of each step.

Captions are those of the file given, over and over; features are random numbers, in real files; the images for export
are those of examples/, over and over. Everything is done at a tenth of the size too: memory should be the same.

python benchmarks/scale.py --captions captions_val2017.json --folder WORK [--images 118000]

WORK receives some 4 GB. What is done is kept in WORK/results.json, and not done again.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

EXAMPLES = Path(__file__).parent.parent / "examples"
CAPTIONS_AN_IMAGE = 5
VALIDATION_IMAGES = 5000  # as COCO has; 1,000 of them are captioned after an epoch
STEPS = 200
WARM = 50  # steps that compile
BLOCK = 1000  # images whose features are drawn; after them come the same
EVERY = 0.05  # seconds between looks at a process
# Encoder, cells and channels, and recipe.
KINDS = {
    "pooled": ("inception_v3", 1, 2048, {"decoder": "show_and_tell"}),
    "grid": ("efficientnet_lite2", 49, 352, {"decoder": "show_attend_tell"}),
}


def main() -> None:
    """Make, measure, print; as a program named so, train a few hundred steps and validate."""
    if sys.argv[1] == "train":
        _train(Path(sys.argv[2]), sys.argv[3])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, required=True, help="a caption file of COCO")
    parser.add_argument("--folder", type=Path, required=True, help="where to work; it may be gone on with")
    parser.add_argument("--images", type=int, default=118_000)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    results = arguments.folder / "results.json"
    rows: dict[str, dict[str, Any]] = json.loads(results.read_text()) if results.exists() else {}
    for images in (arguments.images // 10, arguments.images):
        folder = arguments.folder / str(images)
        for step, command in _steps(folder, arguments.captions, images):
            name = f"{images}, {step}"
            if name not in rows:
                before = _disk(folder)
                rows[name] = {"images": images, "step": step, **command()}
                rows[name]["disk"] = _disk(folder) - before
                results.write_text(json.dumps(rows, indent=1))
    print("| step | images | seconds | memory of its own, MB | of files, MB | written, MB | |")
    print("|---|---|---|---|---|---|---|")
    order = [step for step, _ in _steps(Path(), Path(), 0)]
    for row in sorted(rows.values(), key=lambda row: (order.index(row["step"]), row["images"])):
        memory = f"{row['own'] / 1e6:,.0f} | {row['of_files'] / 1e6:,.0f}" if "own" in row else " | "
        print(
            f"| {row['step']} | {row['images']:,} | {row['seconds']:.1f} | {memory} | {row['disk'] / 1e6:,.0f} "
            f"| {row.get('more', '')} |"
        )


def _steps(folder: Path, captions: Path, images: int) -> Iterator[tuple[str, Any]]:
    """Yield the name of each step and what does it."""
    showtell = [sys.executable, "-m", "showtell"]
    yield "make captions", lambda: _timed(lambda: _make_captions(captions, folder, images))
    parts = ["--train", str(folder / "train.json"), "--val", str(folder / "val.json")]
    yield (
        "prepare",
        lambda: _watched([*showtell, "prepare", *parts, "-o", str(folder / "captions.h5")], folder, "captions*"),
    )
    for kind in KINDS:
        yield f"make features, {kind}", lambda kind=kind: _timed(lambda: _make_features(folder, kind, images))
        command = [sys.executable, __file__, "train", str(folder), kind]
        yield f"train and validate, {kind}", lambda command=command, kind=kind: _watched(command, folder, f"run-{kind}")
    command = [*showtell, "export", str(folder / "run-grid"), "-o", str(folder / "bundle.zip")]
    yield "export, grid", lambda: _watched(command, folder, "bundle.zip")


def _make_captions(source: Path, folder: Path, images: int) -> None:
    texts = [annotation["caption"] for annotation in json.loads(source.read_text())["annotations"]]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for split, first, count in (("train", VALIDATION_IMAGES, images), ("val", 0, VALIDATION_IMAGES)):
        numbers = range(first, first + count)
        told = islice(cycle(texts), first, first + count * CAPTIONS_AN_IMAGE)
        content = {
            "images": [{"id": number, "file_name": f"{number:012}.jpg"} for number in numbers],
            "annotations": [
                {"image_id": first + position // CAPTIONS_AN_IMAGE, "caption": text}
                for position, text in enumerate(told)
            ],
        }
        (folder / f"{split}.json").write_text(json.dumps(content))
    pictures = sorted(EXAMPLES.resolve().glob("*.jpg"))
    for number, picture in zip(range(VALIDATION_IMAGES), cycle(pictures), strict=False):
        link = folder / "images" / f"{number:012}.jpg"
        link.unlink(missing_ok=True)
        link.symlink_to(picture)


def _make_features(folder: Path, kind: str, images: int) -> None:
    from showtell.utils.files import write_json

    encoder, cells, channels, _ = KINDS[kind]
    shape = (cells, channels) if cells > 1 else (channels,)
    block = np.abs(np.random.default_rng(0).normal(size=(BLOCK, *shape))).astype(np.float16)
    for split, first, count in (("train", VALIDATION_IMAGES, images), ("val", 0, VALIDATION_IMAGES)):
        path = folder / f"{split}-{kind}.npy"
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "<f2", "fortran_order": False, "shape": (count, *shape)}
            )
            for start in range(0, count, BLOCK):
                file.write(block[: count - start].tobytes())
            os.fsync(file.fileno())
            # So that training begins by reading from the disk.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        description = _encoder(encoder, cells, channels)
        names = [f"{number:012}.jpg" for number in range(first, first + count)]
        write_json(path.with_suffix(".json"), {"encoder": description, "images": names, "failed": []})


def _encoder(name: str, cells: int, channels: int) -> dict[str, Any]:
    """Return the description of the encoder that ships; of another, whose features these might be."""
    from showtell.encoder import EncoderInfo
    from showtell.images import Preprocess
    from showtell.recipe import EncoderConfig
    from showtell.training.encoders import load_encoder

    if name == "efficientnet_lite2":
        return load_encoder(EncoderConfig(name, grid=cells > 1)).info.to_dict()
    return EncoderInfo(name, "0" * 12, Preprocess(299, "squash", "bilinear"), cells, channels).to_dict()


def _train(folder: Path, kind: str) -> None:
    """Train STEPS steps as `showtell train` does, stop, validate, and keep the model for export."""
    began = time.monotonic()
    from showtell.training import require_keras

    require_keras("training")
    loaded = time.monotonic()
    from showtell.recipe import Recipe
    from showtell.training import monitors, pipeline
    from showtell.training.batches import sample_rows
    from showtell.training.decoders import KerasDecoderStep
    from showtell.training.run import DataPaths, Run, save_model
    from showtell.training.trainer import Interrupted, train

    recipe = Recipe().override(KINDS[kind][3])
    features = [folder / f"{split}-{kind}.npy" for split in ("train", "val")]
    sources = DataPaths.at(folder / "captions.h5", features, [folder / "images"], False)
    run, training, validation = pipeline.create_run(folder / f"run-{kind}", recipe, sources)
    times = []

    def progress(step: int, steps: int, more: str) -> None:
        times.append(time.monotonic())
        if step == STEPS:
            signal.raise_signal(signal.SIGINT)

    with suppress(Interrupted):
        train(run, training, validation, progress=progress)
    trained = time.monotonic()
    if validation is None:
        raise SystemExit("there is nothing to validate with")
    run = Run.open(run.folder)
    model = run.load_latest_checkpoint(print)
    chosen = np.sort(sample_rows(validation, recipe.training.validation_images, (0,)))
    monitors.validate(model, KerasDecoderStep(model), validation.of_images(chosen), run.vocabulary, run.search_options, 64)
    validated = time.monotonic() - trained
    save_model(model, run.best)
    rate = recipe.training.batch_size * (STEPS - WARM) / (times[-1] - times[WARM - 1])
    more = (
        f"loading Keras {loaded - began:.1f} s, then the first step after {times[0] - loaded:.1f} s; {rate:.0f} "
        f"captions/s; validation {validated:.1f} s"
    )
    print(more)


def _timed(job: Any) -> dict[str, float]:
    began = time.monotonic()
    job()
    return {"seconds": time.monotonic() - began}


def _watched(command: list[str], folder: Path, outputs: str) -> dict[str, Any]:
    """Run a program; return its seconds, the most memory that it held, of its own and of files, and its last line.

    What an interrupted one has left in the folder under the names of its outputs is removed.
    """
    for path in folder.glob(outputs):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    began = time.monotonic()
    held = {"RssAnon": 0, "RssFile": 0}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said)
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            for name in held:  # a process that has just ended has none
                held[name] = max(held[name], int(lines.get(name, "0").split()[0]) * 1024)
            time.sleep(EVERY)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
        seconds = time.monotonic() - began
        said.seek(0)
        more = said.read().splitlines()[-1] if __file__ in command else ""
    return {"seconds": seconds, "own": held["RssAnon"], "of_files": held["RssFile"], "more": more}


def _disk(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")) if folder.exists() else 0


if __name__ == "__main__":
    main()
