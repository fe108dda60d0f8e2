"""Training with the command line on small data."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile

import h5py
import numpy as np
import pytest
from helpers import ROOT

from showtell.inference.bundle import Bundle

SMALL = ["--embedding-size", 16, "--units", 16, "--batch-size", 8, "--validation-images", 8, "--label-smoothing", 0.1]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    subprocess.run([sys.executable, "-m", "showtell", "tutorial-data", folder, "--images", "60"], check=True)
    return folder


def latest_checkpoint(run):
    return max((run / "checkpoints").glob("step-*.keras"))


def read_weights(path):
    with h5py.File(io.BytesIO(zipfile.ZipFile(path).read("model.weights.h5"))) as file:
        weights = {}
        file.visititems(lambda name, item: weights.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return weights


def read_history(run):
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def test_a_killed_run_with_a_damaged_checkpoint_ends_with_the_same_weights_as_an_undisturbed_run(
    showtell, shapes, tmp_path
):
    settings = ["--images", shapes, "--epochs", 4, "--checkpoint-every", 3, "--sample-every", 1000, *SMALL]
    showtell("train", "-o", tmp_path / "whole", *settings)

    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "showtell", "train", "-o", killed, *settings]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # Neither step 30 nor step 27, the checkpoint before it, is the end of an epoch.
    while process.poll() is None and not list(killed.glob("checkpoints/step-*30.keras")):
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"

    damaged = latest_checkpoint(killed)
    os.truncate(damaged, damaged.stat().st_size // 2)
    done = showtell("train", "-o", killed, "--resume")
    assert f"warning: {damaged}: cannot load the checkpoint" in done.stderr
    assert re.search(r"resuming from step \d+ of \d+", done.stderr)
    expected, actual = map(latest_checkpoint, (tmp_path / "whole", killed))
    assert actual.name == expected.name
    expected, actual = map(read_weights, (expected, actual))
    assert expected.keys() == actual.keys() and any("optimizer" in key for key in expected)
    for key, value in actual.items():
        assert np.array_equal(value, expected[key]), key
    whole, resumed = map(read_history, (tmp_path / "whole", killed))
    assert len(whole) == len(resumed) == 4
    for one, other in zip(whole, resumed, strict=True):
        assert one["val_loss"] == pytest.approx(other["val_loss"], abs=1e-5)
    assert not any(record["resumed"] for record in whole) and sum(record["resumed"] for record in resumed) == 1
    assert done.stderr.count(" s since it was resumed,") == 1


def test_ctrl_c_saves_a_checkpoint_and_prints_how_to_resume(showtell, shapes, tmp_path):
    command = [sys.executable, "-m", "showtell", "train", "-o", tmp_path / "run", "--images", shapes, "--epochs", 500]
    command += [*SMALL, "--checkpoint-every", 5]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob("run/checkpoints/*.keras")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    step = int(re.search(r"stopped at step (\d+) of .*; resume with: showtell train .* --resume", errors)[1])
    assert latest_checkpoint(tmp_path / "run").name == f"step-{step:09d}.keras"


def test_a_run_folder_has_history_checkpoints_samples_and_tensorboard_events(showtell, shapes, tmp_path):
    run = tmp_path / "run"
    settings = ["--images", shapes, "--epochs", 3, "--checkpoint-every", 4, "--sample-every", 5, *SMALL]
    done = showtell("train", "-o", run, *settings)
    records = read_history(run)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert all({"loss", "val_loss", "bleu_1", "bleu_4", "cider", "distinct"} <= record.keys() for record in records)
    assert len(list((run / "checkpoints").iterdir())) == 2
    assert list((run / "tensorboard").glob("events.*")) and (run / "best.keras").exists()
    lines = (run / "samples" / "step-000000005.txt").read_text().splitlines()
    assert len(lines) == 12 and all("\t" in line for line in lines)  # all validation images
    assert "training run, not a bundle" in showtell("info", run, status=2).stderr
    assert (run / "samples" / "step-000000005.jpg").stat().st_size > 10_000
    assert re.search(r"epoch 3, loss \d.*validation loss .*BLEU-1..4 .*CIDEr", done.stderr)
    assert re.search(
        r"training: \d+ of \d+, .* steps/s.*, epoch 3, loss .*, learning rate .*, \d+ captions/s", done.stderr
    )

    again = showtell("train", "-o", run, *settings, status=2)
    assert "a run already exists; resume it with --resume" in again.stderr
    assert "leave out all other options" in showtell("train", "-o", run, "--resume", "--epochs", 9, status=2).stderr
    finished = showtell("train", "-o", run, "--resume")
    assert finished.stderr.splitlines() == [
        f"the run is finished; export the best checkpoint with: showtell export {run} -o BUNDLE"
    ]


def test_wrong_settings_can_be_corrected_and_damaged_checkpoints_are_reported(showtell, shapes, tmp_path):
    run = tmp_path / "run"
    settings = ["--images", shapes, "--epochs", 1, *SMALL]
    wrong = showtell("train", "-o", run, *settings, "--optimizer", "adamm", status=2)
    assert "optimizer 'adamm'" in wrong.stderr
    showtell("train", "-o", run, *settings)
    for checkpoint in (run / "checkpoints").iterdir():
        checkpoint.write_bytes(b"damaged")
    (run / "history.jsonl").unlink()  # a finished run does not load its checkpoints
    assert "cannot load the checkpoint" in showtell("train", "-o", run, "--resume", status=2).stderr


def test_without_validation_captions_the_bundle_has_no_scores(showtell, shapes, tmp_path):
    rows = list(csv.DictReader((shapes / "metadata.csv").open()))[:20]
    table = tmp_path / "train.csv"
    table.write_text("file_name,text,split\n" + "".join(f"{row['file_name']},{row['text']},train\n" for row in rows))
    showtell("train", "-o", tmp_path / "run", "--images", shapes, "--captions", table, "--epochs", 1, *SMALL)
    done = showtell("export", tmp_path / "run", "-o", tmp_path / "bundle.zip")
    assert "the same captions as Keras on 10 images" in done.stderr and "not scored" in done.stderr
    assert Bundle.load(tmp_path / "bundle.zip").document_frequencies.images == 10
    assert "scores" not in showtell("info", tmp_path / "bundle.zip").stdout


def test_a_model_that_ignores_its_images_causes_a_warning(showtell, shapes, tmp_path):
    names = [row["file_name"] for row in csv.DictReader((shapes / "metadata.csv").open())]
    showtell("prepare", "-o", tmp_path / "c.h5", "--captions", shapes)
    # Constant features look like those of the wrong encoder, or rows in another order.
    for split, count in (("train", 48), ("val", 12)):
        np.save(tmp_path / f"{split}.npy", np.ones((count, 8), np.float32))
    with h5py.File(tmp_path / "c.h5", "a") as file:
        assert len(set(names)) == 60
        many = np.repeat(file["val_captions"][:], 4, axis=0)[:48]
        del file["val_captions"], file["val_image_idx"], file["val_images"], file["val_texts"]
        file["val_captions"], file["val_image_idx"] = many, np.arange(48, dtype=np.int32)
    np.save(tmp_path / "val.npy", np.ones((48, 8), np.float32))
    features = ["--features", tmp_path / "train.npy", "--features", tmp_path / "val.npy"]
    settings = [*SMALL, "--validation-images", 48, "--epochs", 1]
    done = showtell("train", "-o", tmp_path / "run", "--captions", tmp_path / "c.h5", *features, *settings)
    assert "warning: the model ignores its images" in done.stderr


def test_training_reads_the_layout_of_cs231n(showtell, tmp_path):
    random = np.random.default_rng(0)
    words = ["<NULL>", "<START>", "<END>", "<UNK>", "a", "dog", "cat", "bird"]
    (tmp_path / "coco2014_vocab.json").write_text(
        json.dumps({"idx_to_word": words, "word_to_idx": {word: index for index, word in enumerate(words)}})
    )
    with h5py.File(tmp_path / "coco2014_captions.h5", "w") as file:
        for split, count in (("train", 40), ("val", 10)):
            rows = random.integers(0, count // 2, count)
            captions = np.zeros((count, 17), np.int64)
            captions[:, :4] = np.stack([np.full(count, 1), np.full(count, 4), 5 + rows % 3, np.full(count, 2)], axis=1)
            file[f"{split}_captions"], file[f"{split}_image_idxs"] = captions, rows
    for split, count in (("train", 20), ("val", 5)):
        with h5py.File(tmp_path / f"{split}2014_vgg16_fc7.h5", "w") as file:
            file["features"] = np.eye(3, dtype=np.float32)[np.arange(count) % 3]
    captions = ["--captions", tmp_path / "coco2014_captions.h5"]
    features = [item for split in ("train", "val") for item in ("--features", tmp_path / f"{split}2014_vgg16_fc7.h5")]
    done = showtell("train", "-o", tmp_path / "run", *captions, *features[:2], *SMALL, status=2)
    assert "pass --features twice" in done.stderr
    showtell("train", "-o", tmp_path / "run", *captions, *features, *SMALL, "--epochs", 12, "--learning-rate", 0.02)
    last = read_history(tmp_path / "run")[-1]
    assert last["val_loss"] < 0.3 and last["bleu_1"] > 90
    done = showtell("export", tmp_path / "run", "-o", tmp_path / "bundle", status=2)
    assert "the encoder of the features is unknown" in done.stderr


def test_the_recipe_of_the_tutorial_works_from_captions_to_a_bundle(showtell, tmp_path):
    """Use COCO's caption format, Inception V3 with random weights, and the file names of the tutorial."""
    files = sorted((ROOT / "examples").glob("*.jpg"))
    folders = []
    for split, part in (("train", files[:4]), ("val", files[4:])):
        folder = tmp_path / f"{split}2014"
        folder.mkdir()
        folders += ["--images", folder]
        for path in part:
            (folder / path.name).symlink_to(path)
        content = {
            "images": [{"id": int(path.stem), "file_name": path.name} for path in part],
            "annotations": [{"image_id": int(path.stem), "caption": f"A picture number {path.stem}."} for path in part],
        }
        (tmp_path / f"captions_{split}2014.json").write_text(json.dumps(content))
    captions = tmp_path / "coco2014_captions.h5"
    parts = [item for split in ("train", "val") for item in (f"--{split}", tmp_path / f"captions_{split}2014.json")]
    assert "2 of 6" in showtell("prepare", *parts, "-o", captions, *folders[:2], status=2).stderr
    showtell("prepare", *parts, "-o", captions, *folders, "--vocabulary-size", 5000, "--max-length", 25)
    assert "already exists" in showtell("prepare", *parts, "-o", captions, status=2).stderr
    features = []
    encoder = ["--encoder", "inception_v3", "--encoder-weights", "none"]
    for split in ("train", "val"):
        path = tmp_path / f"{split}2014_v3_pool_3.npy"
        showtell("extract", tmp_path / f"{split}2014", "-o", path, *encoder, "--captions", captions, "--split", split)
        features += ["--features", path]
    assert np.load(tmp_path / "train2014_v3_pool_3.npy").shape == (4, 2048)
    run = tmp_path / "run"
    recipe = ["--recipe", ROOT / "recipes" / "coco2014-show-and-tell.toml"]
    showtell("train", "-o", run, *recipe, "--captions", captions, *features, *folders, "--epochs", 1)
    settings = json.loads((run / "settings.json").read_text())
    assert settings["recipe"]["encoder"]["encoder"] == "inception_v3"
    absent = ["--encoder-weights", tmp_path / "absent.h5"]
    assert "cannot load weights" in showtell("export", run, "-o", tmp_path / "bundle", *absent, status=2).stderr
    (tmp_path / "card.md").write_text("# Six photographs")
    card = ["--card", tmp_path / "card.md", "--data-license", "COCO: CC BY 4.0"]
    done = showtell("export", run, "-o", tmp_path / "bundle", "--int8", "--encoder-weights", "none", *card)
    written = (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    assert written.startswith("# Six photographs") and "| cider |" in written and "| learning_rate | 2.0 |" in written
    assert "COCO: CC BY 4.0" in written and Bundle.load(tmp_path / "bundle").data_license == "COCO: CC BY 4.0"
    assert "the same captions as Keras on 2 images" in done.stderr
    result = showtell("caption", files[0], "--model", tmp_path / "bundle")
    assert len(result.stdout.splitlines()) == 1


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory):
    """Run the commands of docs/training.md; return their folder and the messages of the export."""
    folder = tmp_path_factory.mktemp("tutorial")

    def run(*arguments):
        command = [sys.executable, "-m", "showtell", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)

    run("tutorial-data", "shapes")
    run("train", "-o", "run", "--recipe", ROOT / "recipes" / "tutorial.toml", "--images", "shapes")
    exported = run("export", "run", "-o", "shapes.zip", "--int8")
    return folder, exported.stderr


def test_the_tutorial_model_describes_the_shapes(tutorial, showtell):
    folder, exported = tutorial
    assert "the same captions as Keras on 100 images" in exported
    assert re.search(r"float: .*CIDEr", exported) and re.search(r"int8: .*CIDEr", exported)
    metadata = ["--captions", folder / "shapes", "--images", folder / "shapes"]
    done = showtell("evaluate", folder / "shapes.zip", *metadata, "--split", "dev")
    scores = dict(line.split("\t") for line in done.stdout.splitlines())
    assert float(scores["BLEU-4"]) >= 85, scores
    bundle = Bundle.load(folder / "shapes.zip")
    assert float(scores["CIDEr"]) == pytest.approx(bundle.scores["validation"]["cider"], abs=0.005)
    frequencies = bundle.document_frequencies
    assert frequencies.images == 600 - int(scores["images"])  # too few validation images
    assert frequencies.counts["on a"] > frequencies.counts.get("red circle", 0)


def test_a_trained_bundle_captions_a_folder(tutorial, showtell, tmp_path):
    folder, _ = tutorial
    rows = {row["file_name"]: row["text"] for row in csv.DictReader((folder / "shapes" / "metadata.csv").open())}
    names = sorted(rows)[:40]
    images = tmp_path / "images"
    images.mkdir()
    for name in names:
        os.link(folder / "shapes" / name, images / name.rsplit("/", 1)[-1])
    done = showtell("caption", images, "--model", folder / "shapes.zip", "--json", "--annotate", tmp_path / "out")
    results = json.loads(done.stdout)
    assert [entry["path"] for entry in results] == [str(images / name.rsplit("/", 1)[-1]) for name in names]
    words = [word for entry in results for word in entry["caption"].split()]
    assert {"a", "on", "background"} <= set(words)
    assert len(list((tmp_path / "out").iterdir())) == 41 and (tmp_path / "out" / "contact-sheet.jpg").exists()
    both = showtell("caption", images, "--model", folder / "shapes.zip", "--model", folder / "shapes.zip")
    assert [line.split("\t")[1] for line in both.stdout.splitlines()] == [entry["caption"] for entry in results]
