"""Caption decoders in Keras."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from showtell.sessions import State
from showtell.vocabulary import PAD


@keras.saving.register_keras_serializable("showtell")
class ShowAndTell(keras.Model):
    """Show and Tell (Vinyals et al., 2015): an LSTM that first reads the image, then writes the caption.

    The image's features, averaged over the grid, pass through one dense layer to the size of a word vector. Fed with
    that vector from a zero state, the LSTM arrives at its initial state; every word after it gives logits for the next.
    Dropout lies before each LSTM layer and before the logits.

    Args:
        vocabulary_size: V, special tokens included.
        channels: D, the features' numbers a cell.
        embedding_size: numbers a word vector, E.
        units: numbers in the LSTM's state and output, U.
        layers: LSTM layers, one upon the other.
        dropout: the share of numbers dropped while training.
        initializer_scale: if positive, all weights start uniform in ± this number; else as Keras would have them.
    """

    def __init__(
        self,
        vocabulary_size: int,
        channels: int,
        embedding_size: int = 512,
        units: int = 512,
        layers: int = 1,
        dropout: float = 0.3,
        initializer_scale: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.config: dict[str, Any] = {
            "vocabulary_size": vocabulary_size,
            "channels": channels,
            "embedding_size": embedding_size,
            "units": units,
            "layers": layers,
            "dropout": dropout,
            "initializer_scale": initializer_scale,
        }

        def initial(default: Any) -> Any:
            if initializer_scale > 0:
                return keras.initializers.RandomUniform(-initializer_scale, initializer_scale)
            return default

        # Keras' own start, uniform in ± 0.05, hardly moves an LSTM's gates: words would be learnt epochs later.
        unit_normal = initial(keras.initializers.RandomNormal(stddev=1.0))
        self.word_embedding = keras.layers.Embedding(vocabulary_size, embedding_size, unit_normal)
        self.image_embedding = keras.layers.Dense(embedding_size, kernel_initializer=initial("glorot_uniform"))
        self.lstms = [
            keras.layers.LSTM(
                units,
                return_sequences=True,
                kernel_initializer=initial("glorot_uniform"),
                recurrent_initializer=initial("orthogonal"),
            )
            for _ in range(layers)
        ]
        self.logits = keras.layers.Dense(vocabulary_size, kernel_initializer=initial("glorot_uniform"))
        self.dropout_seed = keras.random.SeedGenerator()

    def build(self, input_shape: Any = None) -> None:
        """Make the weights; their shapes follow from the configuration alone."""
        embedding_size, units = self.config["embedding_size"], self.config["units"]
        self.word_embedding.build((None, None))
        self.image_embedding.build((None, self.config["channels"]))
        for layer, lstm in enumerate(self.lstms):
            lstm.build((None, None, units if layer else embedding_size))
        self.logits.build((None, None, units))
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Take `features` (N, G, D) and `tokens` (N, T), `<start>` first; return logits (N, T, V)."""
        image = self._embed_image(inputs["features"])[:, None, :]
        sequence = ops.concatenate([image, self.word_embedding(inputs["tokens"])], axis=1)
        for lstm in self.lstms:
            sequence = lstm(self._drop(sequence, training))
        return self.logits(self._drop(sequence[:, 1:], training))

    def first_state(self, features: Any) -> State:
        """Take features (N, G, D); return the state before the first word."""
        image = self._embed_image(features)
        # Made from the image, because a symbolic tensor has no number of rows to ask for.
        zeros = ops.repeat(ops.zeros_like(image[:, :1]), self.config["units"], axis=1)
        return self._step_lstms(image, dict.fromkeys(self.state_shapes(), zeros))[1]

    def next_word(self, tokens: Any, state: State) -> tuple[Any, State]:
        """Take tokens (N,) and the state before them; return log-probabilities (N, V) and the state after them."""
        output, state = self._step_lstms(self.word_embedding(tokens), state)
        return ops.log_softmax(self.logits(output)), state

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and the shape, without the row axis, of each part of the state."""
        names = [f"{part}_{layer}" for layer in range(len(self.lstms)) for part in ("hidden", "cell")]
        return dict.fromkeys(names, (self.config["units"],))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), **self.config}

    def save_own_variables(self, store: Any) -> None:
        """Keep the state of dropout, which Keras leaves out, so that a resumed training drops what it would have."""
        store["dropout_state"] = ops.convert_to_numpy(self.dropout_seed.state)

    def load_own_variables(self, store: Any) -> None:
        """Bring the state of dropout back."""
        self.dropout_seed.state.assign(store["dropout_state"])

    def _drop(self, values: Any, training: bool) -> Any:
        rate = self.config["dropout"]
        return keras.random.dropout(values, rate, seed=self.dropout_seed) if training and rate else values

    def _embed_image(self, features: Any) -> Any:
        return self.image_embedding(ops.mean(features, axis=1))

    def _step_lstms(self, output: Any, state: State) -> tuple[Any, State]:
        following = {}
        for layer, lstm in enumerate(self.lstms):
            hidden, cell = f"hidden_{layer}", f"cell_{layer}"
            output, (following[hidden], following[cell]) = lstm.cell(output, [state[hidden], state[cell]])
        return output, following


@keras.saving.register_keras_serializable("showtell")
class MaskedCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy over the real tokens of a batch; targets that are `<pad>` do not count.

    Args:
        label_smoothing: the share of the target's probability that is spread over the whole vocabulary
            (Szegedy et al., 2016).
    """

    def __init__(self, label_smoothing: float = 0.0):
        super().__init__(reduction=None, name="masked_cross_entropy")
        self.label_smoothing = label_smoothing

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"label_smoothing": self.label_smoothing}

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Take targets (N, T) and logits (N, T, V); return the loss, a scalar."""
        log_probabilities = ops.log_softmax(ops.cast(y_pred, "float32"))
        loss = -ops.take_along_axis(log_probabilities, ops.cast(y_true, "int32")[..., None], axis=-1)[..., 0]
        if self.label_smoothing:
            uniform = -ops.mean(log_probabilities, axis=-1)
            loss = (1 - self.label_smoothing) * loss + self.label_smoothing * uniform
        real = ops.cast(ops.not_equal(y_true, PAD), "float32")
        return ops.sum(loss * real) / ops.maximum(ops.sum(real), 1.0)


class FirstState(keras.Model):
    """The part of a decoder that starts a caption: features (N, G, D) -> the parts of the state, sorted by name."""

    def __init__(self, decoder: ShowAndTell):
        super().__init__()
        self.decoder = decoder

    def call(self, features: Any) -> list[Any]:
        """Return the state before the first word."""
        state = self.decoder.first_state(features)
        return [state[name] for name in sorted(state)]


class NextWord(keras.Model):
    """The part of a decoder that goes on: [tokens (N,), *state] -> [log-probabilities (N, V), *next state]."""

    def __init__(self, decoder: ShowAndTell):
        super().__init__()
        self.decoder = decoder

    def call(self, inputs: list[Any]) -> list[Any]:
        """Return the log-probabilities of the next word, and the state after `tokens`."""
        tokens, *parts = inputs
        names = sorted(self.decoder.state_shapes())
        log_probabilities, state = self.decoder.next_word(tokens, dict(zip(names, parts, strict=True)))
        return [log_probabilities, *(state[name] for name in names)]


class KerasStep:
    """A Keras decoder as the Step of search.py."""

    def __init__(self, decoder: ShowAndTell):
        self._names = sorted(decoder.state_shapes())
        self._start, self._step = FirstState(decoder), NextWord(decoder)

    def start(self, features: np.ndarray) -> State:
        """Take features (N, G, D) float32; return the state before the first word."""
        outputs = self._start.predict_on_batch(np.asarray(features, np.float32))
        return dict(zip(self._names, outputs, strict=True))

    def __call__(self, tokens: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Take token ids (N,) and the state; return log-probabilities (N, V) float32 and the next state."""
        inputs = [np.asarray(tokens, np.int32), *(state[name] for name in self._names)]
        log_probabilities, *following = self._step.predict_on_batch(inputs)
        return log_probabilities, dict(zip(self._names, following, strict=True))


def set_word_vectors(decoder: ShowAndTell, words: Sequence[str], vectors: dict[str, np.ndarray]) -> int:
    """Start the word embedding from pretrained vectors; return how many of the words have one."""
    table = np.array(decoder.word_embedding.get_weights()[0])
    known = [(row, vectors[word]) for row, word in enumerate(words) if word in vectors]
    for row, vector in known:
        table[row] = vector
    decoder.word_embedding.set_weights([table])
    return len(known)
