"""The interface between decoding and a model: `DecoderStep`, and the `DecoderState` between two steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from showtell.vocabulary import PAD

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class DecoderState:
    """The state of a decoder between two tokens.

    Decoding keeps the captions of one image in adjacent rows, the same number for every image. Caption row r
    therefore belongs to image row r // (captions // images). Large image arrays, such as a feature grid, are stored
    once per image and never copied when beams are reordered.

    Attributes:
        image: arrays that belong to the images, one row per image on axis 0. A step returns them unchanged.
        caption: arrays that belong to the captions, one row per caption on axis 0. Decoding reorders them.
        attention: (captions, G) weights over the G grid cells, for the latest log-probabilities; None before the first
            step, or if the model has no attention.
    """

    image: Arrays = field(default_factory=dict)
    caption: Arrays = field(default_factory=dict)
    attention: np.ndarray | None = None

    @property
    def rows(self) -> int:
        """The number of images before the first step, and the number of captions after it."""
        return len(next(iter((*self.caption.values(), *self.image.values()))))

    def advanced(self, caption: Arrays, attention: np.ndarray | None = None) -> "DecoderState":
        """Return the state after a step: new caption arrays, the same image arrays."""
        return replace(self, caption=caption, attention=attention)

    def gather(self, captions: np.ndarray, images: np.ndarray | None = None) -> "DecoderState":
        """Return the state of the caption rows `captions` (K,) and the image rows `images`; None keeps all images."""
        image = self.image if images is None else {name: array[images] for name, array in self.image.items()}
        caption = {name: array[captions] for name, array in self.caption.items()}
        return DecoderState(image, caption, None if self.attention is None else self.attention[captions])


class DecoderStep(Protocol):
    """A model that scores the next token of many captions at once, one caption per row.

    ONNX Runtime, Keras and ensembles implement it. The decoding code uses models only through this protocol.
    """

    def start(self, features: Any) -> DecoderState:
        """Return the state before the first token, one row per image, from features (N, G, D) float32."""

    def __call__(self, tokens: np.ndarray, state: DecoderState) -> tuple[np.ndarray, DecoderState]:
        """Read tokens (N,), the latest token of each caption; return log-probabilities (N, V) and the next state.

        The caller may overwrite the log-probabilities. The step must not write into the arrays of `state`.
        """


def prime_state(step: DecoderStep, image: Arrays, shapes: Mapping[str, Any]) -> DecoderState:
    """Feed `<pad>`, which stands for the image, to a decoder in its zero state; return the state before `<start>`.

    Args:
        step: the decoder.
        image: the image arrays, one row per image.
        shapes: name of each caption array -> its shape without the row axis.
    """
    images = len(next(iter(image.values())))
    zeros = {name: np.zeros((images, *shape), np.float32) for name, shape in shapes.items()}
    _, state = step(np.full(images, PAD), DecoderState(image, zeros))
    return state
