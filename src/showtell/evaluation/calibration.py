"""Fitting the confidence of a captioner, and measuring how much it is worth."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from showtell.data.caption_files import Example
from showtell.errors import ConfigurationError, ImageError, ShowtellError
from showtell.evaluation.charts import Chart, side_by_side
from showtell.evaluation.evaluator import evaluate_captioner
from showtell.images import batched
from showtell.inference.captioner import BATCH_SIZE, Captioner
from showtell.inference.confidence import Calibration, FeatureClusters, directions, mean_log_prob

# Of captions of Flickr8k around this CIDEr, more than half have the right subject and what it does.
ACCEPTABLE = 50.0
PROTOTYPES = 64
FAMILIAR_IMAGES = 3000
FOLDS = 5
BINS = 10
TRUSTED = 0.9  # of the images that it is fitted on


@dataclass(frozen=True)
class Reliability:
    """How good confidences are, each by a calibration that had not seen the image.

    Attributes:
        confidences: (N,).
        acceptable: (N,) whether the captions were acceptable.
    """

    confidences: np.ndarray
    acceptable: np.ndarray

    @property
    def auroc(self) -> float:
        """The chance that of an acceptable and another caption the acceptable one has the higher confidence."""
        _, inverse, counts = np.unique(self.confidences, return_inverse=True, return_counts=True)
        ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # equal ones share their mean rank
        good = int(self.acceptable.sum())
        bad = len(ranks) - good
        return float((ranks[self.acceptable].sum() - good * (good + 1) / 2) / (good * bad))

    def bins(self) -> list[tuple[float, float]]:
        """Return mean confidence and share of acceptable captions of tenths of the images, by confidence."""
        tenths = np.array_split(np.argsort(self.confidences, kind="stable"), BINS)
        return [
            (float(self.confidences[part].mean()), float(self.acceptable[part].mean())) for part in tenths if len(part)
        ]

    @property
    def calibration_error(self) -> float:
        """The expected calibration error: the mean distance of confidence and share over the tenths."""
        return float(np.mean([abs(confidence - share) for confidence, share in self.bins()]))

    def risks(self) -> np.ndarray:
        """Return (N,) the share of captions that are not acceptable among the 1, 2, .. N most confident ones."""
        order = np.argsort(-self.confidences, kind="stable")
        return np.cumsum(~self.acceptable[order]) / np.arange(1, len(order) + 1)


def picture(found: Reliability) -> str:
    """Draw the risk-coverage curve, and confidence against the share of acceptable captions, as SVG."""
    risks, base = found.risks(), float(1 - found.acceptable.mean())
    shown = np.unique(
        np.linspace(len(risks) // 50, len(risks) - 1, 200).astype(int)
    )  # of the first few, risk is chance
    return side_by_side(
        [
            Chart(
                "Keeping the most confident captions",
                "captions kept",
                "of these, not acceptable",
                [((place + 1) / len(risks), float(risks[place])) for place in shown],
                False,
                ((0, base), (1, base)),
                f"all captions: {base:.0%}",
            ),
            Chart(
                "Confidence and truth, in tenths",
                "mean confidence",
                "acceptable",
                found.bins(),
                True,
                ((0, 0), (1, 1)),
                "perfect",
            ),
        ]
    )


def calibrate(
    captioner: Captioner,
    known: Sequence[Path],
    examples: Sequence[Example],
    folder: Path,
    say: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Calibration, Reliability]:
    """Calibrate a captioner, and measure by cross-validation what that is worth.

    Args:
        captioner: of one bundle.
        known: files of images that it was trained on, or of ones like them; at most FAMILIAR_IMAGES are looked at.
        examples: other images, with their references.
        folder: where these are.
        say: called with a line for each image that cannot be read.
        progress: called with the number of images done, and of all.

    Raises:
        ConfigurationError: if there are no known images, or some of the others are among them.
        ImageError: if no image can be read.
        ShowtellError: if all captions are acceptable, or none is.
    """
    if not known:
        raise ConfigurationError(
            "the captions have no training part, which tells what images the captioner knows; calibrate with the "
            "caption file that it was trained on"
        )
    if shared := len({folder / example.image for example in examples}.intersection(known)):
        raise ConfigurationError(
            f"{shared} of the {len(examples)} images to calibrate on are in the training part, and captions of known "
            "images say nothing of others; choose another part with --split"
        )
    known = known[:: -(-len(known) // FAMILIAR_IMAGES)]
    total = len(known) + 2 * len(examples)
    clusters = cluster_features(list(_features(captioner, known, say, lambda done: progress(done, total))))
    found = evaluate_captioner(
        captioner, examples, folder, say=say, progress=lambda done, _: progress(len(known) + done, total)
    )
    files = [folder / image for image in found.captions]
    features = _features(captioner, files, say, lambda done: progress(len(known) + len(examples) + done, total))
    distances = np.concatenate([clusters.distances(part) for part in features])
    log_probs = np.array([mean_log_prob(one.log_prob, len(one.tokens)) for one in found.captions.values()])
    ciders = np.array([found.scores.per_image[image] for image in found.captions])
    fitted = fit(log_probs, distances, ciders, clusters)
    return fitted, cross_validate(log_probs, distances, ciders, clusters)


def _features(
    captioner: Captioner, files: Sequence[Path], say: Callable[[str], None], progress: Callable[[int], None]
) -> Iterator[np.ndarray]:
    (preprocess,) = captioner.preprocesses
    done = 0
    for batch in batched(preprocess.load_all(files), BATCH_SIZE):
        done += len(batch)
        progress(done)
        for problem in batch:
            if isinstance(problem, ImageError):
                say(f"left out: {problem}")
        if pixels := [image for image in batch if not isinstance(image, ImageError)]:
            yield captioner.encode([np.stack(pixels)])[0]


def fit(log_probs: np.ndarray, distances: np.ndarray, ciders: np.ndarray, clusters: FeatureClusters) -> Calibration:
    """Fit the confidence to captions whose quality is known.

    Args:
        log_probs: (N,) mean log-probabilities of the captions.
        distances: (N, 2) distances of the images from `clusters`, which must not have been learnt from them.
        ciders: (N,) CIDEr of the captions, times 100.
        clusters: what known images look like.

    Raises:
        ShowtellError: if all captions are acceptable, or none is.
    """
    acceptable = ciders >= ACCEPTABLE
    if acceptable.all() or not acceptable.any():
        raise ShowtellError(
            f"{acceptable.sum()} of {len(ciders)} captions have a CIDEr of {ACCEPTABLE:g} or more; a confidence can "
            "only be fitted where some have and some have not"
        )
    middle, far = np.quantile(distances[:, 1], (0.5, TRUSTED))
    weights = logistic_regression(np.column_stack([log_probs, distances[:, 0]]), acceptable)
    return Calibration(ACCEPTABLE, clusters, weights, float(far), float(max(far - middle, 1e-6)))


def cross_validate(
    log_probs: np.ndarray, distances: np.ndarray, ciders: np.ndarray, clusters: FeatureClusters, seed: int = 0
) -> Reliability:
    """Return confidences of a calibration that was fitted on the other folds of the images; as `fit` otherwise."""
    folds = np.random.default_rng(seed).permutation(len(ciders)) % FOLDS
    confidences = np.empty(len(ciders))
    for fold in range(FOLDS):
        rest, here = folds != fold, folds == fold
        fitted = fit(log_probs[rest], distances[rest], ciders[rest], clusters)
        confidences[here] = fitted.confidence(log_probs[here], distances[here])
    return Reliability(confidences, ciders >= ACCEPTABLE)


def logistic_regression(signals: np.ndarray, outcomes: np.ndarray, penalty: float = 1.0) -> np.ndarray:
    """Return the weights (1 + S,), bias first, that make the outcomes likeliest; by Newton's method.

    Args:
        signals: (N, S).
        outcomes: (N,) bool.
        penalty: of the squared weights, for signals of unit variance; the bias has none.
    """
    means, deviations = signals.mean(axis=0), signals.std(axis=0) + 1e-9
    inputs = np.column_stack([np.ones(len(signals)), (signals - means) / deviations])
    ridge = penalty * np.diag([0.0, *np.ones(signals.shape[1])])
    weights = np.zeros(inputs.shape[1])
    for _ in range(25):
        probabilities = 1 / (1 + np.exp(-inputs @ weights))
        gradient = inputs.T @ (probabilities - outcomes) + ridge @ weights
        curvature = (inputs.T * (probabilities * (1 - probabilities))) @ inputs + ridge
        weights = weights - np.linalg.solve(curvature, gradient)
    slopes = weights[1:] / deviations
    return np.array([weights[0] - slopes @ means, *slopes])


def cluster_features(features: Sequence[np.ndarray], seed: int = 0) -> FeatureClusters:
    """Return what images look like, from their features (N, G, D), by spherical k-means (Dhillon and Modha, 2001)."""
    if not features:
        raise ImageError("no image of the training part can be read; name the folder that they are in")
    means = np.concatenate([np.asarray(part, np.float32).mean(axis=1) for part in features])
    centre = means.mean(axis=0)
    points = directions(means, centre)
    generator = np.random.default_rng(seed)
    prototypes = points[generator.choice(len(points), min(PROTOTYPES, len(points)), replace=False)]
    for _ in range(20):
        nearest = (points @ prototypes.T).argmax(axis=1)
        sums = np.zeros_like(prototypes)
        np.add.at(sums, nearest, points)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        prototypes = np.where(norms > 0, sums / np.maximum(norms, 1e-9), prototypes)
    return FeatureClusters(centre, np.stack([means[nearest == cluster].mean(axis=0) for cluster in np.unique(nearest)]))
