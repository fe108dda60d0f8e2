"""Measure time, memory and disk of each step from prepare to export, on a data set of the size of COCO.

The captions are those of a COCO caption file, repeated. The features are random numbers in files of real size. The
images for export are those of examples/, repeated. Each step also runs at a tenth of the size, for comparison.

python benchmarks/scale.py --captions captions_val2017.json --folder WORK [--images 118000]

WORK needs about 5 GB. Results are saved in WORK/results.json; finished steps are skipped when the command runs again.
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
CAPTIONS_PER_IMAGE = 5
VALIDATION_IMAGES = 5000  # as in COCO; training captions 1,000 of them after each epoch
STEPS = 200
WARM_UP_STEPS = 50  # not timed, because they include compilation
BLOCK_SIZE = 1000  # images with different features; later blocks repeat them
SAMPLING_SECONDS = 0.05  # between measurements of the memory of a process
# Encoder, cells, channels and recipe.
KINDS = {
    "pooled": ("inception_v3", 1, 2048, {"decoder": "show_and_tell"}),
    "grid": ("efficientnet_lite2", 49, 352, {"decoder": "show_attend_tell"}),
}


def main() -> None:
    """Run and measure all steps, and print a table. With the argument `train`, run the training step."""
    if sys.argv[1] == "train":
        _train(Path(sys.argv[2]), sys.argv[3])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, required=True, help="COCO caption file")
    parser.add_argument("--folder", type=Path, required=True, help="working folder; an interrupted run is resumed")
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
                before = _disk_usage(folder)
                rows[name] = {"images": images, "step": step, **command()}
                rows[name]["disk"] = _disk_usage(folder) - before
                results.write_text(json.dumps(rows, indent=1))
    print("| step | images | seconds | anonymous memory, MB | mapped files, MB | written, MB | details |")
    print("|---|---|---|---|---|---|---|")
    order = [step for step, _ in _steps(Path(), Path(), 0)]
    for row in sorted(rows.values(), key=lambda row: (order.index(row["step"]), row["images"])):
        memory = f"{row['anonymous'] / 1e6:,.0f} | {row['mapped'] / 1e6:,.0f}" if "anonymous" in row else " | "
        print(
            f"| {row['step']} | {row['images']:,} | {row['seconds']:.1f} | {memory} | {row['disk'] / 1e6:,.0f} "
            f"| {row.get('details', '')} |"
        )


def _steps(folder: Path, captions: Path, images: int) -> Iterator[tuple[str, Any]]:
    """Yield the name of each step, and a function that runs and measures it."""
    showtell = [sys.executable, "-m", "showtell"]
    yield "make captions", lambda: _measure_time(lambda: _make_captions(captions, folder, images))
    parts = ["--train", str(folder / "train.json"), "--val", str(folder / "val.json")]
    yield (
        "prepare",
        lambda: _measure([*showtell, "prepare", *parts, "-o", str(folder / "captions.h5")], folder, "captions*"),
    )
    for kind in KINDS:
        yield f"make features, {kind}", lambda kind=kind: _measure_time(lambda: _make_features(folder, kind, images))
        command = [sys.executable, __file__, "train", str(folder), kind]
        yield (
            f"train and validate, {kind}",
            lambda command=command, kind=kind: _measure(command, folder, f"run-{kind}"),
        )
    command = [*showtell, "export", str(folder / "run-grid"), "-o", str(folder / "bundle.zip")]
    yield "export, grid", lambda: _measure(command, folder, "bundle.zip")


def _make_captions(source: Path, folder: Path, images: int) -> None:
    texts = [annotation["caption"] for annotation in json.loads(source.read_text())["annotations"]]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for split, first, count in (("train", VALIDATION_IMAGES, images), ("val", 0, VALIDATION_IMAGES)):
        numbers = range(first, first + count)
        captions = islice(cycle(texts), first, first + count * CAPTIONS_PER_IMAGE)
        content = {
            "images": [{"id": number, "file_name": f"{number:012}.jpg"} for number in numbers],
            "annotations": [
                {"image_id": first + position // CAPTIONS_PER_IMAGE, "caption": text}
                for position, text in enumerate(captions)
            ],
        }
        (folder / f"{split}.json").write_text(json.dumps(content))
    photos = sorted(EXAMPLES.resolve().glob("*.jpg"))
    for number, photo in zip(range(VALIDATION_IMAGES), cycle(photos), strict=False):
        link = folder / "images" / f"{number:012}.jpg"
        link.unlink(missing_ok=True)
        link.symlink_to(photo)


def _make_features(folder: Path, kind: str, images: int) -> None:
    from showtell.utils.files import write_json

    encoder, cells, channels, _ = KINDS[kind]
    shape = (cells, channels) if cells > 1 else (channels,)
    block = np.abs(np.random.default_rng(0).normal(size=(BLOCK_SIZE, *shape))).astype(np.float16)
    for split, first, count in (("train", VALIDATION_IMAGES, images), ("val", 0, VALIDATION_IMAGES)):
        path = folder / f"{split}-{kind}.npy"
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "<f2", "fortran_order": False, "shape": (count, *shape)}
            )
            for start in range(0, count, BLOCK_SIZE):
                file.write(block[: count - start].tobytes())
            os.fsync(file.fileno())
            # Drop the file from the page cache, so that training reads from the disk.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        description = _encoder_description(encoder, cells, channels)
        names = [f"{number:012}.jpg" for number in range(first, first + count)]
        write_json(path.with_suffix(".json"), {"encoder": description, "images": names, "failed": []})


def _encoder_description(name: str, cells: int, channels: int) -> dict[str, Any]:
    """Return the description of the shipped encoder, or a made-up one for another encoder."""
    from showtell.encoder import EncoderInfo
    from showtell.images import Preprocess
    from showtell.recipe import EncoderConfig
    from showtell.training.encoders import load_encoder

    if name == "efficientnet_lite2":
        return load_encoder(EncoderConfig(name, grid=cells > 1)).info.to_dict()
    return EncoderInfo(name, "0" * 12, Preprocess(299, "squash", "bilinear"), cells, channels).to_dict()


def _train(folder: Path, kind: str) -> None:
    """Train STEPS steps as `showtell train` does, stop, validate, and keep the model for export."""
    start = time.monotonic()
    from showtell.training import require_keras

    require_keras("training")
    loaded = time.monotonic()
    from showtell.recipe import Recipe
    from showtell.training import pipeline
    from showtell.training.batches import sample_images
    from showtell.training.checkpoints import save_model
    from showtell.training.decoders import KerasDecoderStep
    from showtell.training.run import DataPaths, Run
    from showtell.training.trainer import Interrupted, train
    from showtell.training.validation import validate

    recipe = Recipe().override(KINDS[kind][3])
    features = [folder / f"{split}-{kind}.npy" for split in ("train", "val")]
    sources = DataPaths.resolve(folder / "captions.h5", features, [folder / "images"], False)
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
        raise SystemExit("no validation data")
    run = Run.open(run.folder)
    model = run.checkpoints.load_latest_checkpoint()
    chosen = np.sort(sample_images(validation, recipe.training.validation_images, (0,)))
    validate(model, KerasDecoderStep(model), validation.select_images(chosen), run.vocabulary, run.search_options, 64)
    validated = time.monotonic() - trained
    save_model(model, run.best_path)
    rate = recipe.training.batch_size * (STEPS - WARM_UP_STEPS) / (times[-1] - times[WARM_UP_STEPS - 1])
    details = (
        f"loading Keras {loaded - start:.1f} s, then the first step after {times[0] - loaded:.1f} s; {rate:.0f} "
        f"captions/s; validation {validated:.1f} s"
    )
    print(details)


def _measure_time(job: Any) -> dict[str, float]:
    start = time.monotonic()
    job()
    return {"seconds": time.monotonic() - start}


def _measure(command: list[str], folder: Path, outputs: str) -> dict[str, Any]:
    """Run a program. Return its duration, its peak of anonymous memory and of mapped files, and its last line.

    Outputs of an interrupted run are removed first.
    """
    for path in folder.glob(outputs):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    start = time.monotonic()
    peaks = {"RssAnon": 0, "RssFile": 0}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output)
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            for name in peaks:  # missing if the process has just ended
                peaks[name] = max(peaks[name], int(lines.get(name, "0").split()[0]) * 1024)
            time.sleep(SAMPLING_SECONDS)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
        seconds = time.monotonic() - start
        output.seek(0)
        details = output.read().splitlines()[-1] if __file__ in command else ""
    return {"seconds": seconds, "anonymous": peaks["RssAnon"], "mapped": peaks["RssFile"], "details": details}


def _disk_usage(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")) if folder.exists() else 0


if __name__ == "__main__":
    main()
