"""How sure one may be of a caption: the probability that a person would accept it.

Two signals say most of it, and say different things. How likely the decoder finds its own caption, a word on average,
tells whether it was at a loss for words. How far the image lies from those that the captioner has learnt from tells
whether its words mean anything here: a language model is sure of its phrases even in front of noise.

A logistic regression on both, fitted where the quality of captions is known (`showtell calibrate`), gives the
probability. It knows only images like those it was fitted on; what lies farther away than nearly all of them is
therefore trusted less, the farther the less.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from showtell.errors import BundleError


@dataclass(frozen=True)
class Familiarity:
    """What images look like that a captioner has learnt from, as the directions of their clusters.

    Attributes:
        centre: (D,) the mean of their features.
        prototypes: (K, D) unit vectors, the directions from there to the clusters.
    """

    centre: np.ndarray
    prototypes: np.ndarray

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Take features (N, G, D); return (N,) one less the cosine with the nearest prototype, from 0 to 2."""
        return 1 - (directions(features, self.centre) @ self.prototypes.T).max(axis=1)


@dataclass(frozen=True)
class Calibration:
    """From a caption and its image to a probability.

    Attributes:
        acceptable: the CIDEr from which on a caption counted as acceptable.
        familiarity: what known images look like.
        weights: (3,) of the logistic regression: bias, mean log-probability, distance.
        familiar: the distance up to which the regression is trusted.
        fading: beyond it, the confidence falls to 1/e of its value every so much.
    """

    acceptable: float
    familiarity: Familiarity
    weights: np.ndarray
    familiar: float
    fading: float

    def confidence(self, log_probs: ArrayLike, distances: ArrayLike) -> np.ndarray:
        """Return the confidence, 0 to 1, of one caption or many.

        Args:
            log_probs: their `mean_log_prob`, (N,) or a number.
            distances: the distances of their images, likewise.
        """
        log_probs, distances = np.asarray(log_probs), np.asarray(distances)
        logits = self.weights[0] + self.weights[1] * log_probs + self.weights[2] * distances
        strangeness = np.maximum(0, distances - self.familiar) / self.fading
        confidence: np.ndarray = np.exp(-strangeness) / (1 + np.exp(-logits))
        return confidence

    def to_json(self) -> str:
        """Return a form that a bundle can hold."""
        content = asdict(self)
        content["weights"] = self.weights.tolist()
        content["familiarity"] = {
            name: values.astype(np.float64).round(4).tolist() for name, values in content["familiarity"].items()
        }
        return json.dumps(content) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Calibration":
        """Read what `to_json` gave. Raises BundleError if it is something else."""
        try:
            content: dict[str, Any] = json.loads(text)
            known = content.pop("familiarity")
            familiarity = Familiarity(*(np.array(known[name], np.float32) for name in ("centre", "prototypes")))
            return cls(**{**content, "familiarity": familiarity, "weights": np.array(content["weights"])})
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"calibration.json cannot be understood ({error!r}); calibrate the bundle anew") from None


def directions(features: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Take features (N, G, D) and a centre (D,); return unit vectors (N, D) from there to the mean of the cells."""
    away = np.asarray(features, np.float32).mean(axis=1) - centre
    return away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def mean_log_prob(log_prob: float, words: int) -> float:
    """Return the log-probability of a caption of so many words for each of them and `<end>`."""
    return log_prob / (words + 1)
