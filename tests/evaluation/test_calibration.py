import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from showtell.errors import ImageError, MissingExtra, ShowtellError
from showtell.evaluation.calibration import (
    MAX_CLUSTERS,
    Signals,
    calibrate,
    cluster_features,
    cross_validate,
    fit,
    fit_logistic_regression,
)
from showtell.inference.bundle import Bundle
from showtell.inference.confidence import FeatureClusters

CLUSTERS = FeatureClusters(np.zeros(2), np.eye(2))


def test_logistic_regression_recovers_the_weights_of_the_data():
    random = np.random.default_rng(0)
    signals = random.normal([3, -1], [2, 0.1], (20_000, 2))
    outcomes = random.random(20_000) < 1 / (1 + np.exp(-(0.5 + 0.8 * signals[:, 0] - 6 * (signals[:, 1] + 1))))
    assert fit_logistic_regression(signals, outcomes) == pytest.approx([-5.5, 0.8, -6], rel=0.1)


def test_logistic_regression_of_a_worked_example():
    """The expected weights come from Newton's method with an L2 penalty of 1, which showtell used before."""
    log_probs = [-0.4, -0.6, -0.7, -0.9, -1.0, -1.1, -1.3, -1.6]
    distances = [0.2, 0.5, 0.3, 0.6, 0.1, 0.4, 0.5, 0.3]
    outcomes = np.array([1, 1, 0, 1, 1, 0, 0, 0], bool)
    weights = fit_logistic_regression(np.column_stack([log_probs, distances]), outcomes)
    assert weights == pytest.approx([2.452350925, 2.453182210, -0.362960677], abs=1e-4)


def test_constant_signal_predicts_the_share_of_outcomes():
    bias, slope = fit_logistic_regression(np.ones((8, 1)), np.array([1, 1, 0, 0, 0, 0, 0, 0], bool))
    assert 1 / (1 + np.exp(-(bias + slope))) == pytest.approx(0.25)


def test_similar_images_are_closer_to_the_clusters_than_other_images():
    random = np.random.default_rng(0)
    centres = random.normal(0, 1, (5, 30))
    known = centres[random.integers(0, 5, 400)] + random.normal(0, 0.05, (400, 30))
    clusters = cluster_features([known[:200, None], known[200:, None]])
    assert clusters.clusters.shape == (MAX_CLUSTERS, 30)
    assert np.linalg.norm(clusters.clusters[:, None] - centres, axis=2).min(axis=1).max() < 0.5
    similar = centres + random.normal(0, 0.05, (5, 30))
    assert clusters.distances(similar[:, None]).max() < 0.05 < 0.2 < clusters.distances(-similar[:, None]).min()


def test_there_are_at_most_as_many_clusters_as_distinct_images():
    images = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], np.float32)
    clusters = cluster_features([np.repeat(images, 4, axis=0)[:, None]])
    assert sorted(clusters.clusters.tolist()) == sorted(images.tolist())
    with pytest.raises(ImageError, match="no training image can be read"):
        cluster_features([])


def test_cross_validated_confidence_separates_good_from_bad_captions():
    random = np.random.default_rng(1)
    log_probs, distances = random.normal(-1, 0.3, 600), random.uniform(0, 0.5, (600, 2))
    ciders = 50 + 100 * (log_probs + 1) - 50 * (distances[:, 0] - 0.25) + random.normal(0, 10, 600)
    reliability = cross_validate(Signals(log_probs, distances, ciders), CLUSTERS)
    assert reliability.auroc > 0.9 and reliability.calibration_error < 0.1


def test_fit_needs_acceptable_and_unacceptable_captions():
    signals = Signals(np.zeros(6), np.zeros((6, 2)), np.zeros(6))
    with pytest.raises(ShowtellError, match=r"0 of 6 captions are acceptable \(CIDEr of at least 50\)"):
        fit(signals, CLUSTERS)


def test_missing_scikit_learn_is_reported_before_any_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r"pip install 'showtell\[train\]'"):
        calibrate(None, [], [], None)


@pytest.fixture
def caption_table(showtell, noise_images, tmp_path):
    """A caption file for `noise_images`. Every second image has the caption of the default bundle as its reference."""
    captioned = json.loads(showtell("caption", noise_images, "--json").stdout)
    lines = [
        f"{entry['path'].rsplit('/', 1)[-1]},{entry['caption'] if number % 2 else 'several penguins'},"
        f"{'train' if number < 4 else 'val'}"
        for number, entry in enumerate(captioned)
    ]
    table = tmp_path / "captions.csv"
    table.write_text("file_name,text,split\n" + "\n".join(lines) + "\n")
    return table


def test_calibrated_bundle_marks_captions_that_need_review(showtell, noise_images, caption_table, tmp_path):
    bundle = tmp_path / "bundle"
    arguments = ["calibrate", "default", "-o", bundle, "--captions", caption_table, "--images", noise_images]
    done = showtell(*arguments, "--report", tmp_path / "report.svg")
    assert "AUROC" in done.stdout and "expected calibration error" in done.stdout
    assert "warning: 8 images are too few for a reliable calibration" in done.stderr
    assert "<svg" in (tmp_path / "report.svg").read_text()
    assert "already exists" in showtell(*arguments, status=2).stderr

    # An invalid calibration does not prevent a new one.
    loaded = Bundle.load(bundle)
    replace(loaded, files={**loaded.files, "calibration.json": b"{}"}).save(tmp_path / "invalid")
    again = ["calibrate", tmp_path / "invalid", "-o", tmp_path / "again", *arguments[4:]]
    assert showtell(*again).stdout == done.stdout
    assert Bundle.load(tmp_path / "again").calibration is not None

    entries = json.loads(showtell("caption", noise_images, "--json", "--model", bundle).stdout)
    assert all(0 < entry["confidence"] < 1 and "needs_review" not in entry for entry in entries)
    median = sorted(entry["confidence"] for entry in entries)[6] - 1e-4
    reviewed = showtell("caption", noise_images, "--model", bundle, "--min-confidence", median)
    assert reviewed.stdout.count("\tneeds review\n") == 6
    assert "6 of 12 captions" in reviewed.stderr
    ensemble = ["--model", bundle, "--model", bundle, "--min-confidence", 0.5]
    assert "calibrat" in showtell("caption", noise_images, *ensemble, status=2).stderr


def test_calibration_needs_training_images_and_other_images(showtell, noise_images, caption_table, tmp_path):
    arguments = ["calibrate", "default", "-o", tmp_path / "bundle", "--images", noise_images]
    arguments += ["--captions", caption_table]
    shared = showtell(*arguments, "--split", "all", status=2).stderr
    assert "4 of the 12 calibration images are in the training split" in shared
    caption_table.write_text(caption_table.read_text().replace(",train", ",test"))
    assert "no training images" in showtell(*arguments, status=2).stderr
    assert "use a name that ends in .svg" in showtell(*arguments, "--report", tmp_path / "a.png", status=2).stderr
