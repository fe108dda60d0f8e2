from dataclasses import replace

import numpy as np
import pytest

from showtell.errors import BundleError
from showtell.inference.confidence import Calibration, FeatureClusters, mean_log_prob


@pytest.fixture
def calibration():
    clusters = FeatureClusters(np.array([0.5, -1.0]), np.eye(2))
    return Calibration(50.0, clusters, np.array([1.0, 2.0, -1.0]), distance_threshold=0.4, decay=0.1)


def test_confidence_follows_the_regression_and_decays_beyond_the_threshold(calibration):
    from_centre, from_origin = np.array([0.0, 0.4, 0.5, 1.4]), np.array([1.4, 0.4, 0.5, 0.0])
    regression = 1 / (1 + np.exp(-(1 - 2 - from_centre)))
    confidences = calibration.confidence(np.full(4, -1.0), np.column_stack([from_centre, from_origin]))
    assert confidences == pytest.approx(regression * np.array([np.exp(-10), 1, np.exp(-1), 1]))


def test_distances_are_measured_from_the_centre_and_from_the_origin():
    clusters = FeatureClusters(np.array([2.0, 0.0]), np.array([[2.0, 1.0], [3.0, 0.0]]))
    # The third point lies in the direction of a cluster from the centre, but not from the origin.
    distances = clusters.distances(np.array([[[2.0, 1.0]], [[6.0, 0.0]], [[2.0, 2.0]], [[-1.0, 0.0]]]))
    assert distances == pytest.approx(np.array([[0, 0], [0, 0], [0, 1 - 3 / 10**0.5], [1, 1 + 2 / 5**0.5]]), abs=1e-6)


def test_distances_pool_the_grid_cells():
    clusters = FeatureClusters(np.zeros(2), np.eye(2))
    features = np.array([[[3.0, 1.0]], [[0.5, 2.0]]])
    two_cells = np.stack([features[:, 0] + 1, features[:, 0] - 1], axis=1)
    assert clusters.distances(two_cells) == pytest.approx(clusters.distances(features), abs=1e-6)


def test_calibration_survives_saving_and_loading(calibration):
    loaded = Calibration.from_json(calibration.to_json(), channels=2)
    features = np.array([[[1.0, 2.0]], [[-3.0, 0.5]]])
    distances = calibration.feature_clusters.distances(features)
    assert loaded.feature_clusters.distances(features) == pytest.approx(distances, abs=1e-5)
    assert loaded.confidence(-1.0, (0.3, 0.45)) == calibration.confidence(-1.0, (0.3, 0.45))


def test_invalid_calibration_is_rejected(calibration):
    with pytest.raises(BundleError, match=r"invalid calibration\.json: .*; calibrate the bundle again"):
        Calibration.from_json('{"weights": [1]}', channels=2)
    one_cluster = replace(calibration, feature_clusters=replace(calibration.feature_clusters, clusters=np.ones(2)))
    for wrong, channels in ((calibration, 3), (one_cluster, 2), (replace(calibration, weights=np.ones(2)), 2)):
        with pytest.raises(BundleError, match=f"for features with {channels} channels"):
            Calibration.from_json(wrong.to_json(), channels)


def test_mean_log_prob_counts_the_end_token():
    assert mean_log_prob(-6.0, 5) == -1.0
