import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.errors import BundleError, ShowtellError
from showtell.evaluation.calibration import (
    Reliability,
    cluster_features,
    cross_validate,
    fit,
    logistic_regression,
    picture,
)
from showtell.inference.bundle import Bundle
from showtell.inference.confidence import Calibration, FeatureClusters, mean_log_prob


def reliability(confidences, acceptable):
    return Reliability(np.array(confidences, float), np.array(acceptable, bool))


def test_auroc_of_worked_examples():
    assert reliability([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0]).auroc == 1
    assert reliability([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1]).auroc == 0
    assert reliability([0.5, 0.5, 0.5], [1, 0, 1]).auroc == 0.5
    assert reliability([0.9, 0.6, 0.4, 0.1], [1, 0, 1, 0]).auroc == 0.75


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_the_share_of_pairs_in_the_right_order(pairs):
    good = [score for score, fine in pairs if fine]
    bad = [score for score, fine in pairs if not fine]
    if good and bad:
        expected = np.mean([(one > other) + 0.5 * (one == other) for one in good for other in bad])
        assert reliability(*zip(*pairs, strict=True)).auroc == pytest.approx(expected)


def test_calibration_error_is_the_mean_gap_of_tenths():
    confidences = np.repeat(np.arange(10) / 10, 10)
    right = np.concatenate([np.arange(10) < tenth for tenth in range(10)])
    assert reliability(confidences, right).calibration_error == pytest.approx(0)
    assert reliability(confidences, np.zeros(100)).calibration_error == pytest.approx(0.45)


def test_risk_is_what_is_wrong_among_the_most_confident():
    found = reliability([0.2, 0.9, 0.5, 0.7], [0, 1, 1, 0])
    assert found.risks() == pytest.approx([0, 1 / 2, 1 / 3, 2 / 4])


def test_logistic_regression_finds_the_weights_that_made_the_outcomes():
    random = np.random.default_rng(0)
    signals = random.normal([3, -1], [2, 0.1], (20_000, 2))
    outcomes = random.random(20_000) < 1 / (1 + np.exp(-(0.5 + 0.8 * signals[:, 0] - 6 * (signals[:, 1] + 1))))
    assert logistic_regression(signals, outcomes) == pytest.approx([-5.5, 0.8, -6], rel=0.1)


def test_without_a_signal_the_probability_is_the_share():
    bias, slope = logistic_regression(np.ones((8, 1)), np.array([1, 1, 0, 0, 0, 0, 0, 0], bool))
    assert 1 / (1 + np.exp(-(bias + slope))) == pytest.approx(0.25)


def test_the_confidence_is_the_regressions_on_known_ground_and_fades_beyond():
    calibration = Calibration(
        50.0, FeatureClusters(np.zeros(2), np.eye(2)), np.array([1.0, 2.0, -1.0]), distance_threshold=0.4, decay=0.1
    )
    plain = 1 / (1 + np.exp(-(1 - 2 - np.array([0.0, 0.4, 0.5, 1.4]))))
    from_the_centre, from_the_origin = [0.0, 0.4, 0.5, 1.4], [1.4, 0.4, 0.5, 0.0]
    found = calibration.confidence(np.full(4, -1.0), np.column_stack([from_the_centre, from_the_origin]))
    assert found == pytest.approx(plain * np.array([np.exp(-10), 1, np.exp(-1), 1]))


def test_what_is_like_nothing_known_is_far_from_it():
    random = np.random.default_rng(0)
    clusters = random.normal(0, 1, (5, 30))
    known = clusters[random.integers(0, 5, 400)] + random.normal(0, 0.05, (400, 30))
    familiarity = cluster_features([known[:200, None], known[200:, None]])
    assert np.linalg.norm(familiarity.clusters[:, None] - clusters, axis=2).min(axis=1).max() < 0.5
    like = clusters + random.normal(0, 0.05, (5, 30))
    assert familiarity.distances(like[:, None]).max() < 0.05 < 0.2 < familiarity.distances(-like[:, None]).min()
    halves = np.stack([like + 1, like - 1], axis=1)  # the mean over cells is what counts
    assert familiarity.distances(halves) == pytest.approx(familiarity.distances(like[:, None]), abs=1e-5)


def test_distances_are_seen_from_the_centre_and_from_the_origin():
    familiarity = FeatureClusters(np.array([2.0, 0.0]), np.array([[2.0, 1.0], [3.0, 0.0]]))
    # The third lies in the direction of a cluster as seen from the centre, but not as seen from the origin.
    found = familiarity.distances(np.array([[[2.0, 1.0]], [[6.0, 0.0]], [[2.0, 2.0]], [[-1.0, 0.0]]]))
    assert found == pytest.approx(np.array([[0, 0], [0, 0], [0, 1 - 3 / 10**0.5], [1, 1 + 2 / 5**0.5]]), abs=1e-6)


def test_a_cross_validated_confidence_tells_good_from_bad():
    random = np.random.default_rng(1)
    log_probs, distances = random.normal(-1, 0.3, 600), random.uniform(0, 0.5, (600, 2))
    ciders = 50 + 100 * (log_probs + 1) - 50 * (distances[:, 0] - 0.25) + random.normal(0, 10, 600)
    familiarity = FeatureClusters(np.zeros(2), np.eye(2))
    found = cross_validate(log_probs, distances, ciders, familiarity)
    assert found.auroc > 0.9 and found.calibration_error < 0.1
    drawn = picture(found)
    assert drawn.startswith("<svg") and drawn.count("<circle") == 10
    with pytest.raises(ShowtellError, match="0 of 600 captions have a CIDEr of 50"):
        fit(log_probs, distances, np.zeros(600), familiarity)


def test_a_calibration_comes_back_from_its_text():
    calibration = Calibration(
        50.0,
        FeatureClusters(np.array([0.5, -1.0]), np.eye(2)),
        np.array([0.1, 0.2, 0.3]),
        distance_threshold=0.4,
        decay=0.1,
    )
    again = Calibration.from_json(calibration.to_json(), channels=2)
    features = np.array([[[1.0, 2.0]], [[-3.0, 0.5]]])
    for one in (calibration, again):
        distances = calibration.feature_clusters.distances(features)
        assert one.feature_clusters.distances(features) == pytest.approx(distances, abs=1e-5)
    assert again.confidence(-1.0, (0.3, 0.45)) == calibration.confidence(-1.0, (0.3, 0.45))
    with pytest.raises(BundleError, match="calibrate the bundle anew"):
        Calibration.from_json('{"weights": [1]}', channels=2)
    one_cluster = replace(calibration, feature_clusters=replace(calibration.feature_clusters, clusters=np.ones(2)))
    for wrong, channels in ((calibration, 3), (one_cluster, 2), (replace(calibration, weights=np.ones(2)), 2)):
        with pytest.raises(BundleError, match=f"for features of {channels} channels"):
            Calibration.from_json(wrong.to_json(), channels)


def test_the_end_counts_as_a_word():
    assert mean_log_prob(-6.0, 5) == -1.0


def test_a_bundle_is_calibrated_and_marks_what_needs_review(showtell, noise_images, tmp_path):
    captioned = json.loads(showtell("caption", noise_images, "--json").stdout)
    rows = [(entry["path"].rsplit("/", 1)[-1], entry["caption"], number) for number, entry in enumerate(captioned)]
    # Half of the dev images have the caption that they will get as their reference.
    lines = [
        f"{name},{text if number % 2 else 'several penguins'},{'train' if number < 4 else 'val'}"
        for name, text, number in rows
    ]
    table = tmp_path / "captions.csv"
    table.write_text("file_name,text,split\n" + "\n".join(lines) + "\n")
    bundle = tmp_path / "bundle"
    default = showtell("info").stdout.split("\t")[1].split("\n")[0]
    arguments = ["calibrate", default, "-o", bundle, "--captions", table, "--images", noise_images]
    done = showtell(*arguments, "--report", tmp_path / "report.svg")
    assert "AUROC" in done.stdout and "expected calibration error" in done.stdout
    assert (tmp_path / "report.svg").read_text().startswith("<svg")
    assert "exists already" in showtell(*arguments, status=2).stderr

    elsewhere = ["calibrate", default, "-o", tmp_path / "other", "--captions", table, "--images", noise_images]
    known = showtell(*elsewhere, "--split", "all", status=2)
    assert "4 of the 12 images to calibrate on are in the training part" in known.stderr
    table.write_text(table.read_text().replace(",train", ",test"))
    assert "the captions have no training part" in showtell(*elsewhere, status=2).stderr
    table.write_text(table.read_text().replace(",test", ",train"))

    # A calibration that cannot be read any more is replaced all the same.
    loaded = Bundle.load(bundle)
    replace(loaded, files={**loaded.files, "calibration.json": b"{}"}).save(tmp_path / "old")
    again = ["calibrate", tmp_path / "old", "-o", tmp_path / "again", *arguments[4:]]
    assert showtell(*again).stdout == done.stdout and Bundle.load(tmp_path / "again").calibration is not None

    sure = json.loads(showtell("caption", noise_images, "--json", "--model", bundle).stdout)
    assert all(0 < entry["confidence"] < 1 and "needs_review" not in entry for entry in sure)
    middle = sorted(entry["confidence"] for entry in sure)[6] - 1e-4
    marked = showtell("caption", noise_images, "--model", bundle, "--min-confidence", middle)
    assert marked.stdout.count("\tneeds review\n") == 6
    assert "6 of 12 captions need review" in marked.stderr
    both = ["--model", bundle, "--model", bundle, "--min-confidence", 0.5]
    assert "needs one bundle with a calibration" in showtell("caption", noise_images, *both, status=2).stderr
