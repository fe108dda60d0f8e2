"""Fit the confidence of a captioner to captions whose quality is known."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from showtell.data.caption_files import Example
from showtell.errors import ConfigurationError, ImageError, ShowtellError, import_extra
from showtell.evaluation.evaluator import Evaluation, evaluate_captioner
from showtell.evaluation.reliability import Reliability
from showtell.inference.captioner import BATCH_SIZE, Captioner
from showtell.inference.confidence import Calibration, FeatureClusters, directions, mean_log_prob
from showtell.utils.iterables import batched

logger = logging.getLogger(__name__)

# On Flickr8k, more than half of the captions with about this CIDEr name the right subject and action.
MIN_ACCEPTABLE_CIDER = 50.0
MAX_CLUSTERS = 64
MAX_TRAINING_IMAGES = 3000
FOLDS = 5
# The regression is used unchanged up to this quantile of the image distances.
TRUSTED_SHARE = 0.9


@dataclass(frozen=True)
class Signals:
    """The inputs of the confidence, and the quality that it predicts, for N captions.

    Attributes:
        log_probs: (N,) mean log-probability per token.
        distances: (N, 2) distances of the images from clusters that were fitted on other images.
        ciders: (N,) CIDEr, multiplied by 100.
    """

    log_probs: np.ndarray
    distances: np.ndarray
    ciders: np.ndarray

    @property
    def acceptable(self) -> np.ndarray:
        """(N,) bool, whether the caption is acceptable."""
        return self.ciders >= MIN_ACCEPTABLE_CIDER

    def select(self, rows: np.ndarray) -> "Signals":
        """Return the signals of the captions at `rows`."""
        return Signals(self.log_probs[rows], self.distances[rows], self.ciders[rows])


def require_sklearn() -> None:
    """Raise MissingExtra if scikit-learn is not installed."""
    import_extra("sklearn", "fitting a calibration", "train")


def calibrate(
    captioner: Captioner,
    training_images: Sequence[Path],
    examples: Sequence[Example],
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Calibration, Reliability]:
    """Calibrate a captioner, and measure the reliability of its confidence by cross-validation.

    Args:
        captioner: a captioner of one bundle.
        training_images: the images that it was trained on; at most MAX_TRAINING_IMAGES of them are used.
        examples: other images, with reference captions.
        folder: folder of the images of the examples.
        progress: called with the number of processed images and the total.

    Raises:
        ConfigurationError: if there are no training images, or some examples are among them.
        ImageError: if no image can be read.
        MissingExtra: if scikit-learn is not installed.
        ShowtellError: if all captions are acceptable, or none is.
    """
    require_sklearn()
    if not training_images:
        raise ConfigurationError(
            "no training images: the caption file has no training split; use the caption file that the bundle was "
            "trained on"
        )
    if shared := len({folder / example.image for example in examples}.intersection(training_images)):
        raise ConfigurationError(
            f"{shared} of the {len(examples)} calibration images are in the training split; choose another split with "
            "--split, because captions of training images are better than those of other images"
        )
    training_images = training_images[:: -(-len(training_images) // MAX_TRAINING_IMAGES)]
    first, second = len(training_images), len(training_images) + len(examples)  # images done before the next step
    total = second + len(examples)
    clusters = cluster_features(list(_features(captioner, training_images, lambda done: progress(done, total))))
    evaluation = evaluate_captioner(captioner, examples, folder, progress=lambda done, _: progress(first + done, total))
    files = [folder / image for image in evaluation.captions]
    features = _features(captioner, files, lambda done: progress(second + done, total))
    signals = _signals(evaluation, np.concatenate([clusters.distances(batch) for batch in features]))
    return fit(signals, clusters), cross_validate(signals, clusters)


def _features(captioner: Captioner, files: Sequence[Path], progress: Callable[[int], None]) -> Iterator[np.ndarray]:
    """Yield the features (N, G, D) of the readable images, in batches."""
    (preprocess,) = captioner.preprocesses
    done = 0
    for batch in batched(preprocess.load_all(files), BATCH_SIZE):
        done += len(batch)
        progress(done)
        for image in batch:
            if isinstance(image, ImageError):
                logger.warning("skipped: %s", image)
        if pixels := [image for image in batch if not isinstance(image, ImageError)]:
            yield captioner.encode([np.stack(pixels)])[0]


def _signals(evaluation: Evaluation, distances: np.ndarray) -> Signals:
    captions = evaluation.captions
    log_probs = [mean_log_prob(caption.log_prob, len(caption.tokens)) for caption in captions.values()]
    ciders = [evaluation.scores.per_image[image] for image in captions]
    return Signals(np.array(log_probs), distances, np.array(ciders))


def fit(signals: Signals, clusters: FeatureClusters) -> Calibration:
    """Fit a calibration.

    Args:
        signals: signals of captions whose quality is known.
        clusters: the clusters of the training images from which the distances were measured.

    Raises:
        MissingExtra: if scikit-learn is not installed.
        ShowtellError: if all captions are acceptable, or none is.
    """
    acceptable = signals.acceptable
    if acceptable.all() or not acceptable.any():
        raise ShowtellError(
            f"{acceptable.sum()} of {len(acceptable)} captions are acceptable (CIDEr of at least "
            f"{MIN_ACCEPTABLE_CIDER:g}); calibrate on images with both acceptable and unacceptable captions"
        )
    weights = fit_logistic_regression(np.column_stack([signals.log_probs, signals.distances[:, 0]]), acceptable)
    median, threshold = np.quantile(signals.distances[:, 1], (0.5, TRUSTED_SHARE))
    decay = float(max(threshold - median, 1e-6))
    return Calibration(MIN_ACCEPTABLE_CIDER, clusters, weights, float(threshold), decay)


def cross_validate(signals: Signals, clusters: FeatureClusters, seed: int = 0) -> Reliability:
    """Compute the confidence of each caption with a calibration that was fitted on the other folds.

    Args:
        signals: the same as for `fit`.
        clusters: the same as for `fit`.
        seed: seed of the random folds.

    Raises:
        MissingExtra: if scikit-learn is not installed.
        ShowtellError: if all captions of the other folds are acceptable, or none is.
    """
    model_selection = import_extra("sklearn.model_selection", "fitting a calibration", "train")
    confidences = np.empty(len(signals.ciders))
    folds = model_selection.KFold(min(FOLDS, len(confidences)), shuffle=True, random_state=seed)
    for fitting, testing in folds.split(confidences):
        calibration = fit(signals.select(fitting), clusters)
        confidences[testing] = calibration.confidence(signals.log_probs[testing], signals.distances[testing])
    return Reliability(confidences, signals.acceptable)


def fit_logistic_regression(signals: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Fit a logistic regression, with an L2 penalty of 1 on the weights of the standardised signals.

    Args:
        signals: (N, S) inputs.
        outcomes: (N,) bool, outcomes to predict.

    Returns:
        (1 + S,) bias and weights for signals that are not standardised.

    Raises:
        MissingExtra: if scikit-learn is not installed.
    """
    linear_model = import_extra("sklearn.linear_model", "fitting a calibration", "train")
    preprocessing = import_extra("sklearn.preprocessing", "fitting a calibration", "train")
    scaler = preprocessing.StandardScaler().fit(signals)
    regression = linear_model.LogisticRegression(C=1.0, tol=1e-8).fit(scaler.transform(signals), outcomes)
    weights = regression.coef_[0] / scaler.scale_
    return np.array([regression.intercept_[0] - weights @ scaler.mean_, *weights])


def cluster_features(features: Sequence[np.ndarray], seed: int = 0) -> FeatureClusters:
    """Cluster the directions of pooled features by k-means.

    Args:
        features: batches of features, each (N, G, D).
        seed: seed of the initial clusters.

    Raises:
        ImageError: if there are no features.
        MissingExtra: if scikit-learn is not installed.
    """
    if not features:
        raise ImageError("no training image can be read; check the folder passed by --images")
    cluster = import_extra("sklearn.cluster", "fitting a calibration", "train")
    pooled = np.concatenate([np.asarray(batch, np.float32).mean(axis=1) for batch in features])
    centre = pooled.mean(axis=0)
    points = directions(pooled, centre)
    count = min(MAX_CLUSTERS, len(np.unique(points, axis=0)))
    labels = cluster.KMeans(count, random_state=seed).fit_predict(points)
    return FeatureClusters(centre, np.stack([pooled[labels == label].mean(axis=0) for label in range(count)]))
