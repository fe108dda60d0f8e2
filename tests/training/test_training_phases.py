"""All three training phases with the command line on small data."""

import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import h5py
import pytest

from showtell.errors import Interrupted
from showtell.training import pipeline
from showtell.training.run import Run
from showtell.training.trainer import train

SETTINGS = [
    *("--grid", "--decoder", "show_attend_tell", "--embedding-size", 16, "--units", 16, "--batch-size", 16),
    *("--validation-images", 8, "--checkpoint-every", 2, "--epochs", 1, "--scheduled-sampling", 0.25),
    *("--fine-tuning-epochs", 1, "--fine-tuned-layers", 2, "--fine-tuning-images", 8),
    *("--self-critical-epochs", 1, "--self-critical-images", 16, "--samples-per-image", 2),
]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    subprocess.run([sys.executable, "-m", "showtell", "tutorial-data", folder, "--images", "40"], check=True)
    return folder


@pytest.fixture(scope="module")
def whole(shapes, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whole"
    command = [sys.executable, "-m", "showtell", "train", "-o", run, "--images", shapes, *SETTINGS]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return run


def read_weights(path):
    with h5py.File(io.BytesIO(zipfile.ZipFile(path).read("model.weights.h5"))) as file:
        weights = {}
        file.visititems(lambda name, item: weights.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return weights


def read_history(run):
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def test_each_phase_starts_from_the_result_of_the_previous_one(whole):
    assert [record["epoch"] for record in read_history(whole)] == [1]
    for phase in ("fine-tuning", "self-critical"):
        assert [record["epoch"] for record in read_history(whole / phase)] == [0, 1]
    before, after = read_history(whole)[0], read_history(whole / "fine-tuning")[0]
    assert after["val_loss"] == pytest.approx(before["val_loss"], abs=0.01)
    assert (whole / "fine-tuning" / "encoder.onnx").exists() and (whole / "self-critical" / "best.keras").exists()


def test_resuming_a_finished_run_changes_nothing(showtell, whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert showtell("train", "-o", whole, "--resume").stderr.startswith("the run is finished; ")
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_a_run_killed_while_fine_tuning_ends_with_the_same_weights_as_an_undisturbed_run(
    showtell, shapes, whole, tmp_path
):
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "showtell", "train", "-o", run, "--images", shapes, *SETTINGS]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(run.glob("fine-tuning/checkpoints/step-*2.keras")):
        time.sleep(0.005)
    process.kill()
    assert process.wait() < 0, "the run ended before it was killed"
    assert "resuming from step" in showtell("train", "-o", run, "--resume").stderr
    for phase in ("fine-tuning", "self-critical"):
        latest = [max((folder / phase / "checkpoints").glob("step-*.keras")) for folder in (whole, run)]
        expected, actual = map(read_weights, latest)
        assert latest[0].name == latest[1].name and expected.keys() == actual.keys()
        for name, value in actual.items():
            assert value == pytest.approx(expected[name], abs=1e-4), f"{phase}: {name}"


def test_an_interrupt_between_two_phases_stops_at_once_and_loses_nothing(whole, tmp_path, caplog):
    shutil.copytree(whole, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    shutil.rmtree(run.self_critical.folder)
    for name in ("train.npy", "train.json", "val.npy", "val.json"):
        (run.fine_tuning.folder / name).unlink()
    messages = []

    class InterruptingHandler(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())
            os.kill(os.getpid(), signal.SIGINT)

    handler = InterruptingHandler()
    logger = logging.getLogger("showtell.training")
    caplog.set_level(logging.INFO, logger.name)
    logger.addHandler(handler)
    try:
        with pytest.raises(Interrupted, match=r"stopped after the features of 8 of .* images; resume with: .*"):
            train(run, *pipeline.load_data(run))
    finally:
        logger.removeHandler(handler)
    assert len(messages) == 1 and "extracting features of" in messages[0]
    *_, last = (run.fine_tuning.folder / "train.npy.partial.jsonl").read_text().splitlines()
    assert json.loads(last)[1] is None and not run.self_critical.folder.exists()


def test_two_phases_can_be_exported_and_show_attention_maps(showtell, shapes, whole, tmp_path):
    done = showtell("export", whole, "-o", tmp_path / "last.zip", "--int8")
    assert "the same captions as Keras" in done.stderr and "int8" in done.stderr
    showtell("export", whole, "-o", tmp_path / "first", "--phase", "cross-entropy")
    encoders = [showtell("info", tmp_path / name).stdout.splitlines()[1] for name in ("last.zip", "first")]
    assert encoders[0] != encoders[1], "the second phase fine-tunes the encoder"
    image = next((shapes / "images").iterdir())
    showtell("caption", image, "--model", tmp_path / "last.zip", "--attention", tmp_path / "maps")
    assert (tmp_path / "maps" / f"{image.stem}.jpg").stat().st_size > 5_000


def test_exporting_a_phase_that_the_recipe_does_not_have_is_refused(showtell, shapes, tmp_path):
    run = tmp_path / "run"
    showtell("train", "-o", run, "--images", shapes, "--epochs", 1, "--units", 8, "--embedding-size", 8)
    done = showtell("export", run, "-o", tmp_path / "bundle", "--phase", "fine-tuning", status=2)
    assert "the recipe of this run has no fine-tuning phase" in done.stderr
