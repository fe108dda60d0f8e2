"""Measure and draw how reliable confidences are."""

from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np

from showtell.errors import import_extra
from showtell.evaluation.evaluator import MIN_RELIABLE_IMAGES

BINS = 10
# Below a coverage of 2 %, the risk is mostly noise.
MIN_COVERAGE = 0.02
SVG_SETTINGS: Any = {"svg.hashsalt": "showtell", "svg.fonttype": "none"}


@dataclass(frozen=True)
class Reliability:
    """Confidences of captions whose quality is known.

    Attributes:
        confidences: (N,) confidences, each from a calibration that was not fitted on the image.
        acceptable: (N,) bool, whether the caption is acceptable.
    """

    confidences: np.ndarray
    acceptable: np.ndarray

    @property
    def auroc(self) -> float:
        """Area under the ROC curve: probability that an acceptable caption is ranked above an unacceptable one."""
        metrics = import_extra("sklearn.metrics", "the AUROC", "train")
        return float(metrics.roc_auc_score(self.acceptable, self.confidences))

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean gap between confidence and share of acceptable captions over the bins."""
        confidences, acceptable = self.bins()
        return float(np.abs(confidences - acceptable).mean())

    def bins(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean confidence and share of acceptable captions of BINS bins of equal size, in ascending order."""
        order = np.argsort(self.confidences, kind="stable")
        bins = np.array_split(order, min(BINS, len(order)))
        confidences, acceptable = (
            np.array([values[rows].mean() for rows in bins]) for values in (self.confidences, self.acceptable)
        )
        return confidences, acceptable

    def risks(self) -> np.ndarray:
        """Return the shares (N,) of unacceptable captions among the 1, 2, .. N most confident captions."""
        order = np.argsort(-self.confidences, kind="stable")
        return np.cumsum(~self.acceptable[order]) / np.arange(1, len(order) + 1)

    @property
    def note(self) -> str | None:
        """A caveat, if the images are too few."""
        images = len(self.acceptable)
        if images >= MIN_RELIABLE_IMAGES:
            return None
        return f"{images} images are too few for a reliable calibration; use at least {MIN_RELIABLE_IMAGES} images"

    def summary(self) -> dict[str, str]:
        """Return measure -> formatted value, in the order of reports."""
        risks = self.risks()
        return {
            "images": str(len(self.acceptable)),
            "acceptable captions": f"{self.acceptable.mean():.1%}",
            "AUROC": f"{self.auroc:.3f}",
            "expected calibration error": f"{self.calibration_error:.3f}",
            **{
                f"acceptable among the {share:.0%} most confident": f"{1 - risks[round(share * len(risks)) - 1]:.1%}"
                for share in (0.2, 0.5, 0.8)
            },
            "captions with a confidence of at least 0.5": f"{(self.confidences >= 0.5).mean():.1%}",
        }


def require_matplotlib() -> None:
    """Raise MissingExtra if matplotlib is not installed."""
    import_extra("matplotlib", "drawing charts", "train")


def draw_reliability(reliability: Reliability) -> str:
    """Draw the risk-coverage curve and the reliability diagram.

    Returns:
        An SVG image. The same data always gives the same text.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    risks = reliability.risks()
    coverage = np.arange(1, len(risks) + 1) / len(risks)
    shown = coverage >= MIN_COVERAGE
    mean_risk = float(risks[-1])
    with rc_context(SVG_SETTINGS):
        figure = Figure(figsize=(9, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_curve(left, coverage[shown], risks[shown])
        left.axhline(mean_risk, color="black", linestyle="--", label=f"all captions: {mean_risk:.0%}")
        left.set(title="Risk and coverage", xlabel="captions kept, most confident first", ylabel="not acceptable")
        _draw_curve(right, *reliability.bins(), marker="o")
        right.plot([0, 1], [0, 1], color="black", linestyle="--", label="perfect calibration")
        right.set(title="Reliability in ten bins", xlabel="mean confidence", ylabel="acceptable captions")
        for axes in (left, right):
            axes.legend(loc="upper left")
        file = StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _draw_curve(axes: Any, x: np.ndarray, y: np.ndarray, marker: str = "") -> None:
    axes.plot(x, y, marker=marker, linewidth=2.5)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.grid(color="lightgrey")
