"""How sure one may be of a caption: the probability that a person would accept it.

Two signals say most of it, and say different things. How likely the decoder finds its own caption, a word on average,
tells whether it was at a loss for words. How far the image lies from those that the captioner has learnt from tells
whether its words mean anything here: a language model is sure of its phrases even in front of noise.

A logistic regression on both, fitted where the quality of captions is known (`showtell calibrate`), gives the
probability. It knows only images like those it was fitted on; what lies farther away than nearly all of them is
therefore trusted less, the farther the less.

An image's distance can be seen from two places. From the middle of all known images it tells of which kind the image
is, and so whether that kind comes out well. But an image that excites the encoder little or oddly, such as a page of
text, looks from there like just another kind; from the origin it is far from all of them.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from showtell.errors import BundleError
from showtell.utils.field_types import check_field_types


@dataclass(frozen=True)
class FeatureClusters:
    """What images look like that a captioner has learnt from.

    Attributes:
        centre: (D,) the mean of their features.
        clusters: (K, D) the mean features of each cluster of them.
    """

    centre: np.ndarray
    clusters: np.ndarray

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Take features (N, G, D); return the distances (N, 2) from the nearest cluster.

        They are one less the cosine, from 0 to 2: of the directions as seen from the centre, and from the origin.
        """
        pooled = np.asarray(features, np.float32).mean(axis=1)
        cosines = [
            (directions(pooled, origin) @ directions(self.clusters, origin).T).max(axis=1)
            for origin in (self.centre, np.zeros_like(self.centre))
        ]
        return 1 - np.stack(cosines, axis=1)


@dataclass(frozen=True)
class Calibration:
    """From a caption and its image to a probability.

    Attributes:
        min_acceptable_cider: the CIDEr from which on a caption counted as acceptable.
        feature_clusters: what known images look like.
        weights: (3,) of the logistic regression: bias, mean log-probability, distance as seen from the centre.
        distance_threshold: the distance, as seen from the origin, up to which the regression is trusted.
        decay: beyond it, the confidence falls to 1/e of its value every so much.
    """

    min_acceptable_cider: float
    feature_clusters: FeatureClusters
    weights: np.ndarray
    distance_threshold: float
    decay: float

    def confidence(self, log_probs: ArrayLike, distances: ArrayLike) -> np.ndarray:
        """Return the confidence, 0 to 1, of one caption or many.

        Args:
            log_probs: their `mean_log_prob`, (N,) or a number.
            distances: those of their images from `feature_clusters`, (N, 2) or (2,).
        """
        log_probs, distances = np.asarray(log_probs), np.asarray(distances)
        logits = self.weights[0] + self.weights[1] * log_probs + self.weights[2] * distances[..., 0]
        strangeness = np.maximum(0, distances[..., 1] - self.distance_threshold) / self.decay
        confidence: np.ndarray = np.exp(-strangeness) / (1 + np.exp(-logits))
        return confidence

    def to_json(self) -> str:
        """Return a form that a bundle can hold."""
        content = asdict(self)
        content["weights"] = self.weights.tolist()
        content["feature_clusters"] = {
            name: values.astype(np.float64).round(4).tolist() for name, values in content["feature_clusters"].items()
        }
        return json.dumps(content) + "\n"

    @classmethod
    def from_json(cls, text: str, channels: int) -> "Calibration":
        """Read what `to_json` gave, for features of so many channels. Raises BundleError if it is something else."""
        try:
            content: dict[str, Any] = json.loads(text)
            known = content.pop("feature_clusters")
            with np.errstate(over="ignore"):
                clusters = FeatureClusters(*(np.array(known[name], np.float32) for name in ("centre", "clusters")))
            weights = np.array(content["weights"], np.float64)
            shapes = clusters.centre.shape, clusters.clusters.shape[1:], weights.shape
            if shapes != ((channels,), (channels,), (3,)):
                raise ValueError(f"shapes {shapes} for features of {channels} channels")
            calibration = check_field_types(cls(**{**content, "feature_clusters": clusters, "weights": weights}))
            numbers = (clusters.centre, clusters.clusters, weights, calibration.distance_threshold, calibration.decay)
            if not all(np.isfinite(each).all() for each in numbers) or calibration.decay <= 0:
                raise ValueError("numbers that cannot be")
            return calibration
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise BundleError(f"calibration.json cannot be understood ({error!r}); calibrate the bundle anew") from None


def directions(points: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Return the unit vectors (N, D) that point from origin (D,) to points (N, D)."""
    away = points - origin
    return away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def mean_log_prob(log_prob: float, words: int) -> float:
    """Return the log-probability of a caption of so many words for each of them and `<end>`."""
    return log_prob / (words + 1)
