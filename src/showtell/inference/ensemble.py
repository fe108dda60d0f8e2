"""Ensembles: several models that act as one decoder."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from showtell.errors import ConfigurationError, MismatchError
from showtell.inference.decoder_step import DecoderState, DecoderStep


class Ensemble:
    """Several models with one vocabulary, as one `DecoderStep` that averages their probabilities.

    The state contains the arrays of all models. Array names are prefixed with the index of the model, as in "0/name".
    The attention is the mean over the models that have attention, if their grids have the same size.
    """

    def __init__(self, steps: Sequence[DecoderStep]):
        if not steps:
            raise ConfigurationError("an ensemble needs at least one model")
        self.steps = tuple(steps)

    def start(self, features: np.ndarray | Sequence[np.ndarray]) -> DecoderState:
        """Return the state before the first token.

        Args:
            features: (N, G, D) for all models, or one such array per model.

        Raises:
            ConfigurationError: if the number of arrays differs from the number of models.
        """
        features_of = [features] * len(self.steps) if isinstance(features, np.ndarray) else features
        if len(features_of) != len(self.steps):
            raise ConfigurationError(
                f"an ensemble of {len(self.steps)} models needs one feature array per model, not {len(features_of)}"
            )
        return _merge([step.start(own) for step, own in zip(self.steps, features_of, strict=True)])

    def __call__(self, tokens: np.ndarray, state: DecoderState) -> tuple[np.ndarray, DecoderState]:
        """Return the logarithm of the mean probabilities (N, V), and the next state."""
        outputs = [
            step(tokens, DecoderState(_arrays_of(number, state.image), _arrays_of(number, state.caption)))
            for number, step in enumerate(self.steps)
        ]
        log_probs, states = zip(*outputs, strict=True)
        sizes = [array.shape[1] for array in log_probs]
        if len(set(sizes)) > 1:
            raise MismatchError(f"the models of an ensemble must share a vocabulary, but have {sizes} tokens")
        return np.logaddexp.reduce(log_probs, axis=0) - math.log(len(log_probs)), _merge(states)


def _merge(states: Sequence[DecoderState]) -> DecoderState:
    image = {f"{number}/{name}": array for number, state in enumerate(states) for name, array in state.image.items()}
    caption = {
        f"{number}/{name}": array for number, state in enumerate(states) for name, array in state.caption.items()
    }
    weights = [state.attention for state in states if state.attention is not None]
    same_grid = len({array.shape for array in weights}) == 1
    return DecoderState(image, caption, np.mean(weights, axis=0) if same_grid else None)


def _arrays_of(number: int, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    prefix = f"{number}/"
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
