"""Training through the real command line, on small data."""

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


def weights_of(run):
    newest = max((run / "checkpoints").glob("step-*.keras"))
    with h5py.File(io.BytesIO(zipfile.ZipFile(newest).read("model.weights.h5"))) as file:
        found = {}
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return newest.name, found


def test_a_run_that_was_killed_and_lost_its_newest_checkpoint_ends_with_the_weights_of_an_undisturbed_one(
    showtell, shapes, tmp_path
):
    settings = ["--images", shapes, "--epochs", 4, "--checkpoint-every", 3, "--sample-every", 1000, *SMALL]
    showtell("train", "-o", tmp_path / "whole", *settings)

    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "showtell", "train", "-o", killed, *settings]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(
        killed.glob("checkpoints/step-*30.keras")
    ):  # nor is 27 the end of an epoch
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"

    newest = max(killed.glob("checkpoints/step-*.keras"))
    os.truncate(newest, newest.stat().st_size // 2)
    done = showtell("train", "-o", killed, "--resume")
    assert f"note: {newest}: not a checkpoint that can be loaded" in done.stderr
    assert re.search(r"going on from step \d+ of \d+", done.stderr)
    name, expected = weights_of(tmp_path / "whole")
    assert weights_of(killed)[0] == name
    assert expected.keys() == weights_of(killed)[1].keys() and any("optimizer" in key for key in expected)
    for key, value in weights_of(killed)[1].items():
        assert np.array_equal(value, expected[key]), key  # the same seed gives the same, to the last bit
    whole, resumed = ((run / "history.jsonl").read_text().splitlines() for run in (tmp_path / "whole", killed))
    assert len(whole) == len(resumed) == 4
    whole, resumed = list(map(json.loads, whole)), list(map(json.loads, resumed))
    for one, other in zip(whole, resumed, strict=True):
        assert one["val_loss"] == pytest.approx(other["val_loss"], abs=1e-5)
    assert not any(record["resumed"] for record in whole) and sum(record["resumed"] for record in resumed) == 1
    assert done.stderr.count(" s since it was resumed,") == 1


def test_an_interrupt_saves_and_says_how_to_go_on(showtell, shapes, tmp_path):
    command = [sys.executable, "-m", "showtell", "train", "-o", tmp_path / "run", "--images", shapes, "--epochs", 500]
    command += [*SMALL, "--checkpoint-every", 5]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob("run/checkpoints/*.keras")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said
    step = int(re.search(r"stopped at step (\d+) of .* --resume", said)[1])
    assert weights_of(tmp_path / "run")[0] == f"step-{step:09d}.keras"


def test_what_a_run_leaves(showtell, shapes, tmp_path):
    run = tmp_path / "run"
    settings = ["--images", shapes, "--epochs", 3, "--checkpoint-every", 4, "--sample-every", 5, *SMALL]
    done = showtell("train", "-o", run, *settings)
    records = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert all({"loss", "val_loss", "bleu_1", "bleu_4", "cider", "distinct"} <= record.keys() for record in records)
    assert len(list((run / "checkpoints").iterdir())) == 2
    assert list((run / "tensorboard").glob("events.*")) and (run / "best.keras").exists()
    lines = (run / "samples" / "step-000000005.txt").read_text().splitlines()
    assert len(lines) == 12 and all("\t" in line for line in lines)  # all the validation images there are
    assert "run: a training run, no bundle; make one" in showtell("info", run, status=2).stderr
    assert (run / "samples" / "step-000000005.jpg").stat().st_size > 10_000
    assert re.search(r"epoch 3, loss \d.*validation loss .*BLEU-1..4 .*CIDEr", done.stderr)
    assert re.search(
        r"training: \d+ of \d+, .* steps/s.*, epoch 3, loss .*, learning rate .*, \d+ captions/s", done.stderr
    )

    again = showtell("train", "-o", run, *settings, status=2)
    assert "a run is there already" in again.stderr
    assert "no others" in showtell("train", "-o", run, "--resume", "--epochs", 9, status=2).stderr
    finished = showtell("train", "-o", run, "--resume")
    assert finished.stderr.splitlines() == [
        f"the run is finished; make a bundle of the best checkpoint with: showtell export {run} -o BUNDLE"
    ]


def test_a_mistake_in_the_settings_can_be_mended_and_a_lost_checkpoint_is_told(showtell, shapes, tmp_path):
    run = tmp_path / "run"
    settings = ["--images", shapes, "--epochs", 1, *SMALL]
    wrong = showtell("train", "-o", run, *settings, "--optimizer", "adamm", status=2)
    assert "optimizer 'adamm'" in wrong.stderr
    showtell("train", "-o", run, *settings)
    for checkpoint in (run / "checkpoints").iterdir():
        checkpoint.write_bytes(b"lost")
    (run / "history.jsonl").unlink()  # a training that is over needs no checkpoint
    assert "not a checkpoint that can be loaded" in showtell("train", "-o", run, "--resume", status=2).stderr


def test_captions_without_validation_make_a_bundle_that_is_not_scored(showtell, shapes, tmp_path):
    rows = list(csv.DictReader((shapes / "metadata.csv").open()))[:20]
    table = tmp_path / "train.csv"
    table.write_text("file_name,text,split\n" + "".join(f"{row['file_name']},{row['text']},train\n" for row in rows))
    showtell("train", "-o", tmp_path / "run", "--images", shapes, "--captions", table, "--epochs", 1, *SMALL)
    done = showtell("export", tmp_path / "run", "-o", tmp_path / "bundle.zip")
    assert "the same captions as Keras on 10 images" in done.stderr and "not scored" in done.stderr
    assert Bundle.load(tmp_path / "bundle.zip").document_frequencies.images == 10
    assert "scores" not in showtell("info", tmp_path / "bundle.zip").stdout


def test_a_model_that_cannot_see_its_images_is_warned_of(showtell, shapes, tmp_path):
    names = [row["file_name"] for row in csv.DictReader((shapes / "metadata.csv").open())]
    showtell("prepare", "-o", tmp_path / "c.h5", "--captions", shapes)
    # Features that say nothing: the wrong encoder, or rows in another order, look like this.
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
    assert "WARNING" in done.stderr and "ignores its images" in done.stderr


def test_a_data_set_in_the_layout_of_cs231n_is_trained_on(showtell, tmp_path):
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
    alone = showtell("train", "-o", tmp_path / "run", *captions, *features[:2], *SMALL, status=2)
    assert "give --features twice" in alone.stderr
    showtell("train", "-o", tmp_path / "run", *captions, *features, *SMALL, "--epochs", 12, "--learning-rate", 0.02)
    last = json.loads((tmp_path / "run" / "history.jsonl").read_text().splitlines()[-1])
    assert last["val_loss"] < 0.3 and last["bleu_1"] > 90
    refused = showtell("export", tmp_path / "run", "-o", tmp_path / "bundle", status=2)
    assert "do not say which encoder" in refused.stderr


def test_the_tutorials_own_recipe_runs_from_captions_to_a_bundle(showtell, tmp_path):
    """COCO's caption format, Inception V3 (its weights random here), the tutorial's file names and settings."""
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
    assert "exists already" in showtell("prepare", *parts, "-o", captions, status=2).stderr
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
    refused = showtell("export", run, "-o", tmp_path / "bundle", "--encoder-weights", tmp_path / "absent.h5", status=2)
    assert "cannot be loaded" in refused.stderr
    (tmp_path / "card.md").write_text("# Six photographs")
    card = ["--card", tmp_path / "card.md"]
    done = showtell("export", run, "-o", tmp_path / "bundle", "--int8", "--encoder-weights", "none", *card)
    written = (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    assert written.startswith("# Six photographs") and "| cider |" in written and "| learning_rate | 2.0 |" in written
    assert "the same captions as Keras on 2 images" in done.stderr
    result = showtell("caption", files[0], "--model", tmp_path / "bundle")
    assert len(result.stdout.splitlines()) == 1


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """The README's tutorial, typed as written there but for the folders."""
    folder = tmp_path_factory.mktemp("tutorial")

    def run(*arguments):
        command = [sys.executable, "-m", "showtell", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)

    run("tutorial-data", "shapes")
    run("train", "-o", "run", "--recipe", ROOT / "recipes" / "tutorial.toml", "--images", "shapes")
    exported = run("export", "run", "-o", "shapes.zip", "--int8")
    return folder, exported.stderr


def test_the_tutorial_learns_its_shapes(learnt, showtell):
    folder, exported = learnt
    assert "the same captions as Keras on 100 images" in exported
    assert re.search(r"float: .*CIDEr", exported) and re.search(r"int8: .*CIDEr", exported)
    metadata = ["--captions", folder / "shapes", "--images", folder / "shapes"]
    done = showtell("evaluate", folder / "shapes.zip", *metadata, "--split", "dev")
    scores = dict(line.split("\t") for line in done.stdout.splitlines())
    assert float(scores["BLEU-4"]) >= 85, scores
    bundle = Bundle.load(folder / "shapes.zip")
    assert float(scores["CIDEr"]) == pytest.approx(bundle.scores["validation"]["cider"], abs=0.005)
    frequencies = bundle.document_frequencies
    assert frequencies.images == 600 - int(scores["images"])  # the validation images are too few, so those of training
    assert frequencies.counts["on a"] > frequencies.counts.get("red circle", 0)


def test_a_trained_bundle_captions_files_and_folders(learnt, showtell, tmp_path):
    folder, _ = learnt
    rows = {row["file_name"]: row["text"] for row in csv.DictReader((folder / "shapes" / "metadata.csv").open())}
    names = sorted(rows)[:40]
    images = tmp_path / "images"
    images.mkdir()
    for name in names:
        os.link(folder / "shapes" / name, images / name.rsplit("/", 1)[-1])
    done = showtell("caption", images, "--model", folder / "shapes.zip", "--json", "--annotate", tmp_path / "out")
    result = json.loads(done.stdout)
    assert [entry["path"] for entry in result] == [str(images / name.rsplit("/", 1)[-1]) for name in names]
    words = [word for entry in result for word in entry["caption"].split()]
    assert {"a", "on", "background"} <= set(words)
    assert len(list((tmp_path / "out").iterdir())) == 41 and (tmp_path / "out" / "contact-sheet.jpg").exists()
    both = showtell("caption", images, "--model", folder / "shapes.zip", "--model", folder / "shapes.zip")
    assert [line.split("\t")[1] for line in both.stdout.splitlines()] == [entry["caption"] for entry in result]
