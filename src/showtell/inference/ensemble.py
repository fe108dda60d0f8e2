"""Several models that caption as one."""

import math
from collections.abc import Sequence

import numpy as np

from showtell.errors import ConfigurationError, MismatchError
from showtell.inference.search import DecoderStep, State


class Ensemble:
    """Several models as one `Step` that averages their probabilities; all must have the same vocabulary.

    Its state holds the entries of every model, as "0/name" for the first; and "attention", the mean of the weights of
    those that have any, if they look at equal numbers of cells.
    """

    def __init__(self, steps: Sequence[DecoderStep]):
        if not steps:
            raise ConfigurationError("an ensemble needs one model or more; none was given")
        self.steps = tuple(steps)

    def start(self, features: np.ndarray | Sequence[np.ndarray]) -> State:
        """Return the state before the first word.

        Takes features (N, G, D) for all models, or a sequence with those of each; if their number is not that of the
        models, raises ConfigurationError.
        """
        each = [features] * len(self.steps) if isinstance(features, np.ndarray) else features
        if len(each) != len(self.steps):
            raise ConfigurationError(f"an ensemble of {len(self.steps)} models needs as many features, not {len(each)}")
        return self._merged([step.start(own) for step, own in zip(self.steps, each, strict=True)])

    def __call__(self, tokens: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Return the logarithm of the mean probabilities (N, V), and the new state."""
        own: list[State] = [{} for _ in self.steps]
        for name, leaf in state.items():
            index, slash, own_name = name.partition("/")
            if slash:
                own[int(index)][own_name] = leaf
        log_probs, states = zip(*(step(tokens, part) for step, part in zip(self.steps, own, strict=True)), strict=True)
        sizes = [array.shape[1] for array in log_probs]
        if len(set(sizes)) > 1:
            raise MismatchError(f"the models of an ensemble must share a vocabulary; theirs have {sizes} words")
        mean = np.logaddexp.reduce(log_probs, axis=0) - math.log(len(log_probs))
        return mean, self._merged(states)

    @staticmethod
    def _merged(states: Sequence[State]) -> State:
        merged = {f"{index}/{name}": leaf for index, state in enumerate(states) for name, leaf in state.items()}
        weights = [state["attention"] for state in states if "attention" in state]
        if len({each.shape for each in weights}) == 1:
            merged["attention"] = np.mean(weights, axis=0)
        return merged
