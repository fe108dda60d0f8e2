"""Record the decoder steps of a search, to time them without the search around them."""

from typing import Any

import numpy as np

from showtell.inference.decoder_step import DecoderState, DecoderStep
from showtell.inference.search import search
from showtell.inference.search_options import SearchOptions

Call = tuple[np.ndarray, DecoderState]


def record_calls(step: DecoderStep, features: np.ndarray, options: SearchOptions) -> list[Call]:
    """Return the arguments of every decoder step of a search.

    Args:
        step: the decoder.
        features: (N, G, D) float32.
        options: the search options.
    """
    calls: list[Call] = []

    class Recorder:
        def start(self, features: Any) -> DecoderState:
            return step.start(features)

        def __call__(self, tokens: np.ndarray, state: DecoderState) -> tuple[np.ndarray, DecoderState]:
            calls.append((tokens, state))
            return step(tokens, state)

    search(Recorder(), features, options)
    return calls
