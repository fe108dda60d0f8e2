"""The training loss."""

from typing import Any

import keras
from keras import ops

from showtell.vocabulary import PAD


@keras.saving.register_keras_serializable("showtell")
class MaskedCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy over the tokens of a batch, without `<pad>`.

    Args:
        label_smoothing: share of the target's probability that is spread over the vocabulary (Szegedy et al. 2016,
            https://arxiv.org/abs/1512.00567).
    """

    def __init__(self, label_smoothing: float = 0.0):
        super().__init__(reduction=None, name="masked_cross_entropy")
        self.label_smoothing = label_smoothing

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {"label_smoothing": self.label_smoothing}

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss, a scalar, for targets (N, T) and logits (N, T, V)."""
        log_probabilities = ops.log_softmax(ops.cast(y_pred, "float32"))
        loss = -ops.take_along_axis(log_probabilities, ops.cast(y_true, "int32")[..., None], axis=-1)[..., 0]
        if self.label_smoothing:
            uniform = -ops.mean(log_probabilities, axis=-1)
            loss = (1 - self.label_smoothing) * loss + self.label_smoothing * uniform
        mask = ops.cast(ops.not_equal(y_true, PAD), "float32")
        return ops.sum(loss * mask) / ops.maximum(ops.sum(mask), 1.0)
