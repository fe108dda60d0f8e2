import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.evaluation.reliability import Reliability, draw_reliability


def reliability(confidences, acceptable):
    return Reliability(np.array(confidences, float), np.array(acceptable, bool))


def test_auroc_of_worked_examples():
    assert reliability([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0]).auroc == 1
    assert reliability([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1]).auroc == 0
    assert reliability([0.5, 0.5, 0.5], [1, 0, 1]).auroc == 0.5
    assert reliability([0.9, 0.6, 0.4, 0.1], [1, 0, 1, 0]).auroc == 0.75


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_the_share_of_correctly_ordered_pairs(pairs):
    good = [confidence for confidence, acceptable in pairs if acceptable]
    bad = [confidence for confidence, acceptable in pairs if not acceptable]
    if good and bad:
        expected = np.mean([(first > second) + 0.5 * (first == second) for first in good for second in bad])
        assert reliability(*zip(*pairs, strict=True)).auroc == pytest.approx(expected)


def test_calibration_error_is_the_mean_difference_over_the_bins():
    confidences = np.repeat(np.arange(10) / 10, 10)
    calibrated = np.concatenate([np.arange(10) < tenth for tenth in range(10)])
    assert reliability(confidences, calibrated).calibration_error == pytest.approx(0)
    assert reliability(confidences, np.zeros(100)).calibration_error == pytest.approx(0.45)


def test_fewer_captions_than_bins_get_one_bin_each():
    confidences, acceptable = reliability([0.9, 0.1], [1, 0]).bins()
    assert confidences.tolist() == [0.1, 0.9] and acceptable.tolist() == [0, 1]


def test_risks_are_the_unacceptable_shares_among_the_most_confident():
    risks = reliability([0.2, 0.9, 0.5, 0.7], [0, 1, 1, 0]).risks()
    assert risks == pytest.approx([0, 1 / 2, 1 / 3, 2 / 4])


def test_summary_formats_the_measures():
    summary = reliability(np.arange(10) / 10, np.arange(10) >= 6).summary()
    assert summary["images"] == "10" and summary["acceptable captions"] == "40.0%" and summary["AUROC"] == "1.000"
    assert summary["acceptable among the 20% most confident"] == "100.0%"
    assert summary["acceptable among the 80% most confident"] == "50.0%"
    assert summary["captions with a confidence of at least 0.5"] == "50.0%"


def test_too_few_images_get_a_note():
    assert "10 images are too few" in reliability(np.zeros(10), np.zeros(10)).note
    assert reliability(np.zeros(200), np.zeros(200)).note is None


def test_charts_are_deterministic_svg_with_readable_text():
    random = np.random.default_rng(0)
    confidences = random.random(300)
    measured = reliability(confidences, random.random(300) < confidences)
    svg = draw_reliability(measured)
    assert "<svg" in svg and "Risk and coverage</text>" in svg and "perfect calibration</text>" in svg
    assert draw_reliability(measured) == svg
    assert "<dc:date>" not in svg
