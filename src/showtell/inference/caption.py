"""The results of captioning."""

from dataclasses import dataclass, field

import numpy as np

from showtell.errors import ImageError
from showtell.images import ImageSource
from showtell.inference.notebook import render_html


@dataclass(frozen=True)
class Caption:
    """A caption of an image.

    Attributes:
        text: the caption.
        log_prob: natural log-probability under the model, summed over the tokens and `<end>`.
        score: `log_prob` with the length penalty applied; captions of an image are ranked by it.
        tokens: the words, subwords or characters of the caption, without spaces.
        attention: (tokens, G) float32 attention weights of each token over the G grid cells, in rows from the top of
            the image; None if the model has no attention. Ignored by equality.
        confidence: estimated probability, 0 to 1, that the caption is acceptable, calibrated for the search options of
            the bundle; None if the bundle has no calibration, and for ensembles.
        alternatives: the other captions of the image, if `n_best` was greater than 1.
        source: the image; the content of a file object. Ignored by equality.
    """

    text: str
    log_prob: float
    score: float
    tokens: tuple[str, ...]
    attention: np.ndarray | None = field(default=None, compare=False, repr=False)
    confidence: float | None = None
    alternatives: tuple["Caption", ...] = ()
    source: ImageSource | None = field(default=None, compare=False, repr=False)

    def _repr_html_(self) -> str:
        """Show the image, its caption and the confidence in a notebook."""
        return render_html(self.source, [(self.text, self.confidence)])


@dataclass(frozen=True)
class CaptionResult:
    """The captions of one image, or the reason why it has none.

    Attributes:
        source: the image, as it was passed.
        captions: its captions, best first; empty if it could not be read.
        error: why the image could not be read.
    """

    source: ImageSource
    captions: tuple[Caption, ...] = ()
    error: ImageError | None = None

    def _repr_html_(self) -> str:
        """Show the image with its captions and confidences, or the error, in a notebook."""
        if self.error is not None:
            return render_html(None, [(str(self.error), None)])
        source = self.captions[0].source if self.captions else self.source
        return render_html(source, [(caption.text, caption.confidence) for caption in self.captions])
