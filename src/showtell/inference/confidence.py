"""The confidence of a caption: the estimated probability that it is acceptable.

The probability comes from a logistic regression on two signals, fitted on images with reference captions (`showtell
calibrate`):

- the mean log-probability per token, which is low if the decoder finds no good description;
- the distance of the image from the training images, which is large if the model was trained on other kinds of images.
  The log-probability does not show this: it is high for common phrases even if the image is noise.

Images farther away than nearly all images of the fit are outside the range of the regression. Their confidence decays
with the distance.

Each image has two cosine distances, with different origins. With the mean of the training features as the origin, the
distance tells how unusual the kind of image is. An image with weak or unusual activations, such as a page of text, has
a normal distance by that measure. With zero as the origin, it is far from all training images.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from showtell.errors import BundleError
from showtell.utils.field_types import check_field_types

# Captions with a lower confidence are marked as unsure.
MIN_SURE = 0.5
# Maximum of all numbers of a calibration, so that no product overflows.
MAX_VALUE = 1e6


@dataclass(frozen=True)
class FeatureClusters:
    """A summary of the training images.

    Attributes:
        centre: (D,) mean of their features.
        clusters: (K, D) mean features of each cluster.
    """

    centre: np.ndarray
    clusters: np.ndarray

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Return the cosine distances (N, 2), 0 to 2, of features (N, G, D) from the nearest cluster.

        The origin of the vectors is `centre` in the first column, and zero in the second.
        """
        pooled = np.asarray(features, np.float32).mean(axis=1)
        cosines = [
            (directions(pooled, origin) @ directions(self.clusters, origin).T).max(axis=1)
            for origin in (self.centre, np.zeros_like(self.centre))
        ]
        return 1 - np.stack(cosines, axis=1)


@dataclass(frozen=True)
class Calibration:
    """Computes a confidence from the log-probability and the image distances.

    Attributes:
        min_acceptable_cider: captions with at least this CIDEr were labelled as acceptable in the fit.
        feature_clusters: summary of the training images.
        weights: (3,) weights of the logistic regression: bias, mean log-probability, distance with origin `centre`.
        distance_threshold: distance with origin zero up to which the regression is used unchanged.
        decay: the confidence falls by a factor of e for each multiple of this distance beyond the threshold.
    """

    min_acceptable_cider: float
    feature_clusters: FeatureClusters
    weights: np.ndarray
    distance_threshold: float
    decay: float

    def confidence(self, log_probs: ArrayLike, distances: ArrayLike) -> np.ndarray:
        """Return the confidence, 0 to 1, of one caption or several.

        Args:
            log_probs: `mean_log_prob` of the captions, (N,) or a scalar.
            distances: distances of their images from `feature_clusters`, (N, 2) or (2,).
        """
        log_probs, distances = np.asarray(log_probs), np.asarray(distances)
        logits = self.weights[0] + self.weights[1] * log_probs + self.weights[2] * distances[..., 0]
        excess = np.maximum(0, distances[..., 1] - self.distance_threshold) / self.decay
        with np.errstate(over="ignore"):
            confidence: np.ndarray = np.exp(-excess) / (1 + np.exp(-logits))
        return confidence

    def to_json(self) -> str:
        """Return the calibration as the text of calibration.json."""
        content = asdict(self)
        content["weights"] = self.weights.tolist()
        content["feature_clusters"] = {
            name: values.astype(np.float64).round(4).tolist() for name, values in content["feature_clusters"].items()
        }
        return json.dumps(content) + "\n"

    @classmethod
    def from_json(cls, text: str, channels: int) -> "Calibration":
        """Read the text of calibration.json for features with D = `channels`. Raises BundleError if it is invalid."""
        try:
            content: dict[str, Any] = json.loads(text)
            arrays = content.pop("feature_clusters")
            with np.errstate(over="ignore"):
                clusters = FeatureClusters(*(np.array(arrays[name], np.float32) for name in ("centre", "clusters")))
            weights = np.array(content["weights"], np.float64)
            shapes = clusters.centre.shape, clusters.clusters.shape[1:], weights.shape
            if shapes != ((channels,), (channels,), (3,)):
                raise ValueError(f"shapes {shapes} for features with {channels} channels")
            calibration = check_field_types(cls(**{**content, "feature_clusters": clusters, "weights": weights}))
            values = (
                clusters.centre,
                clusters.clusters,
                weights,
                calibration.distance_threshold,
                1 / calibration.decay,
            )
            if not all((np.abs(value) <= MAX_VALUE).all() for value in values) or calibration.decay <= 0:
                raise ValueError("values out of range")
            return calibration
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            reason = repr(error)[:300]
            raise BundleError(f"invalid calibration.json: {reason}; calibrate the bundle again") from None


def directions(points: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Return the unit vectors (N, D) from `origin` (D,) to `points` (N, D)."""
    offsets = points - origin
    return offsets / np.maximum(np.linalg.norm(offsets, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def mean_log_prob(log_prob: float, tokens: int) -> float:
    """Return the mean log-probability per token, including `<end>`. `tokens` is the number without `<end>`."""
    return log_prob / (tokens + 1)
