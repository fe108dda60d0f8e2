"""Caption decoders in Keras."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from showtell.inference.decoder_step import DecoderState, prime_state
from showtell.recipe import ModelConfig
from showtell.vocabulary import PAD

StateArrays = dict[str, Any]  # the arrays of a decoder's state by name, as backend tensors


class Decoder(keras.Model):
    """What the decoders share: word embedding, dropout, logits, and the two parts that a Step is made of.

    Args:
        vocabulary_size: V, special tokens included.
        channels: D, the features' numbers a cell.
        embedding_size: numbers a word vector, E.
        units: numbers in an LSTM's state and output, U.
        layers: LSTM layers, one upon the other; those of `ShowAttendTell` come after the one that attends.
        dropout: the share of numbers dropped while training.
        initializer_scale: if positive, all weights start uniform in ± this number; else as Keras would have them.

    Attributes:
        kind: the decoder's name in recipes and bundles.
    """

    kind: str

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
        # Keras' own start, uniform in ± 0.05, hardly moves an LSTM's gates: words would be learnt epochs later.
        unit_normal = self._initial(keras.initializers.RandomNormal(stddev=1.0))
        self.word_embedding = keras.layers.Embedding(vocabulary_size, embedding_size, unit_normal)
        self.image_embedding = self._dense(embedding_size)
        self.lstms = [self._lstm() for _ in range(layers)]
        self.logits = self._dense(vocabulary_size)
        self.dropout_seed = keras.random.SeedGenerator()

    def image_state(self, features: Any) -> StateArrays:
        """Take features (N, G, D); return the parts of the state that belong to the image and never change.

        Among them is "image" (N, E), which the first LSTM reads before the first word. The LSTMs' parts begin as zeros.
        """
        raise NotImplementedError

    def next_word(self, tokens: Any, state: StateArrays) -> tuple[Any, StateArrays]:
        """Take tokens (N,) and the state before them; return log-probabilities (N, V) and the parts that changed.

        `<pad>`, which no caption holds, stands for the image. As search.py has it, the state's parts of N / k images go
        with N captions, k for each image, that lie together.
        """
        raise NotImplementedError

    def state_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Return the name and the shape, without the row axis, of each part of the state."""
        return {**self._lstm_shapes(), "image": (self.config["embedding_size"],)}

    def recurrent_state_names(self) -> list[str]:
        """Return the names of what `next_word` gives anew, sorted."""
        return sorted(self._lstm_shapes())

    def named_weights(self) -> dict[str, keras.Variable]:
        """Return the weights by names that stay: `logits/kernel`. Keras' own count how many layers were made before."""
        return {
            f"{name}/{weight.name}": weight for name, layer in self._named_layers().items() for weight in layer.weights
        }

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), **self.config}

    def save_own_variables(self, store: Any) -> None:
        """Keep the state of dropout, which Keras leaves out, so that a resumed training drops what it would have."""
        store["dropout_state"] = ops.convert_to_numpy(self.dropout_seed.state)

    def load_own_variables(self, store: Any) -> None:
        """Bring the state of dropout back."""
        self.dropout_seed.state.assign(store["dropout_state"])

    def _initial(self, default: Any) -> Any:
        scale = self.config["initializer_scale"]
        return keras.initializers.RandomUniform(-scale, scale) if scale > 0 else default

    def _dense(self, size: int, activation: str | None = None) -> keras.layers.Dense:
        return keras.layers.Dense(size, activation, kernel_initializer=self._initial("glorot_uniform"))

    def _lstm(self) -> keras.layers.LSTM:
        return keras.layers.LSTM(
            self.config["units"],
            return_sequences=True,
            kernel_initializer=self._initial("glorot_uniform"),
            recurrent_initializer=self._initial("orthogonal"),
        )

    def _drop(self, values: Any, training: bool) -> Any:
        rate = self.config["dropout"]
        return keras.random.dropout(values, rate, seed=self.dropout_seed) if training and rate else values

    def _named_layers(self) -> dict[str, keras.layers.Layer]:
        lstms = {f"lstm_{name}": lstm for name, lstm in self._all_lstms().items()}
        dense = {"image_embedding": self.image_embedding, "logits": self.logits}
        return {"word_embedding": self.word_embedding, **dense, **lstms}

    def _all_lstms(self) -> dict[str, keras.layers.LSTM]:
        return {str(layer): lstm for layer, lstm in enumerate(self.lstms)}

    def _lstm_shapes(self) -> dict[str, tuple[int | None, ...]]:
        names = [f"{part}_{name}" for name in self._all_lstms() for part in ("hidden", "cell")]
        return dict.fromkeys(names, (self.config["units"],))

    def _read_word(self, tokens: Any, image: Any) -> Any:
        """Take tokens (N,) and the vectors of images (I, E); return word vectors (N, E), the image's for `<pad>`."""
        by_image = ops.reshape(tokens, (ops.shape(image)[0], -1, 1))
        words = self.word_embedding(by_image[..., 0])
        vectors = ops.where(ops.equal(by_image, PAD), ops.cast(image, words.dtype)[:, None, :], words)
        return ops.reshape(vectors, (-1, self.config["embedding_size"]))

    def _step(self, name: str, values: Any, state: StateArrays, following: StateArrays) -> Any:
        hidden, cell = f"hidden_{name}", f"cell_{name}"
        output, (following[hidden], following[cell]) = self._all_lstms()[name].cell(
            values, [state[hidden], state[cell]]
        )
        return output


@keras.saving.register_keras_serializable("showtell")
class ShowAndTell(Decoder):
    """Show and Tell (Vinyals et al., 2015): an LSTM that first reads the image, then writes the caption.

    The image's features, averaged over the grid, pass through one dense layer to the size of a word vector. Fed with
    that vector from a zero state, the LSTM arrives at its initial state; every word after it gives logits for the next.
    Dropout lies before each LSTM layer and before the logits.
    """

    kind = "show_and_tell"

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

    def image_state(self, features: Any) -> StateArrays:
        """Take features (N, G, D); return the vector (N, E) that the LSTM reads first."""
        return {"image": self._embed_image(features)}

    def next_word(self, tokens: Any, state: StateArrays) -> tuple[Any, StateArrays]:
        """Take tokens (N,) and the state before them; return log-probabilities (N, V) and the state after them."""
        following: StateArrays = {}
        output = self._read_word(tokens, state["image"])
        for name in self._all_lstms():
            output = self._step(name, output, state, following)
        return ops.log_softmax(ops.cast(self.logits(output), "float32")), following

    def _embed_image(self, features: Any) -> Any:
        return self.image_embedding(ops.mean(features, axis=1))


@keras.saving.register_keras_serializable("showtell")
class ShowAttendTell(Decoder):
    """An attention LSTM, a look at the image, and language LSTMs (after Anderson et al., 2018, and Xu et al., 2015).

    The attention LSTM reads the caption so far, beginning with the image's mean as `ShowAndTell` does. Its output asks
    each cell of the grid how much it matters now (scaled dot products, Vaswani et al., 2017); the language LSTM reads
    that output together with the cells' weighted mean, and gives the logits. Unlike in "bottom-up and top-down"
    attention, the language LSTM's output does not return to the attention LSTM: so each LSTM runs over a whole caption
    at once in training, which takes a third of the time.

    Dropout lies on the cells, before each LSTM layer, and before the logits.
    """

    kind = "show_attend_tell"

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.cell_embedding = self._dense(self.config["units"], "relu")
        self.attention_lstm = self._lstm()
        self.query = self._dense(self.config["units"])

    def build(self, input_shape: Any = None) -> None:
        """Make the weights; their shapes follow from the configuration alone."""
        embedding_size, units = self.config["embedding_size"], self.config["units"]
        self.word_embedding.build((None, None))
        self.cell_embedding.build((None, None, self.config["channels"]))
        self.image_embedding.build((None, units))
        self.attention_lstm.build((None, None, embedding_size))
        self.query.build((None, None, units))
        for layer, lstm in enumerate(self.lstms):
            lstm.build((None, None, units if layer else 2 * units))
        self.logits.build((None, None, units))
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Take `features` (N, G, D) and `tokens` (N, T), `<start>` first; return logits (N, T, V)."""
        cells = self._drop(self.cell_embedding(inputs["features"]), training)
        image = self.image_embedding(ops.mean(cells, axis=1))[:, None, :]
        sequence = ops.concatenate([image, self.word_embedding(inputs["tokens"])], axis=1)
        sequence = self.attention_lstm(self._drop(sequence, training))
        sequence, _ = self._look(sequence, cells)
        for lstm in self.lstms:
            sequence = lstm(self._drop(sequence, training))
        return self.logits(self._drop(sequence[:, 1:], training))

    def image_state(self, features: Any) -> StateArrays:
        """Take features (N, G, D); return the cells (N, G, U) to look at, and the vector (N, E) that is read first."""
        cells = self.cell_embedding(features)
        return {"image": self.image_embedding(ops.mean(cells, axis=1)), "cells": cells}

    def next_word(self, tokens: Any, state: StateArrays) -> tuple[Any, StateArrays]:
        """Take tokens (N,) and the state before them; return log-probabilities (N, V) and the state after them."""
        following: StateArrays = {}
        units, cells = self.config["units"], state["cells"]
        output = self._step("attention", self._read_word(tokens, state["image"]), state, following)
        looked, attention = self._look(ops.reshape(output, (ops.shape(cells)[0], -1, units)), cells)
        following["attention"] = ops.reshape(attention, (-1, ops.shape(cells)[1]))
        output = ops.reshape(looked, (-1, 2 * units))
        for name in super()._all_lstms():
            output = self._step(name, output, state, following)
        return ops.log_softmax(ops.cast(self.logits(output), "float32")), following

    def state_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Return the name and the shape, without the row axis, of each part of the state."""
        return {**super().state_shapes(), "cells": (None, self.config["units"])}

    def recurrent_state_names(self) -> list[str]:
        """Return the names of what `next_word` gives anew: the LSTMs' state, and the attention (N, G)."""
        return sorted([*self._lstm_shapes(), "attention"])

    def _named_layers(self) -> dict[str, keras.layers.Layer]:
        return {**super()._named_layers(), "cell_embedding": self.cell_embedding, "query": self.query}

    def _all_lstms(self) -> dict[str, keras.layers.LSTM]:
        return {"attention": self.attention_lstm, **super()._all_lstms()}

    def _look(self, sequence: Any, cells: Any) -> tuple[Any, Any]:
        """Take (N, T, U) and cells (N, G, U); return (N, T, 2 U), each with what it saw, and attention (N, T, G)."""
        scores = ops.matmul(self.query(sequence), ops.transpose(cells, (0, 2, 1))) / self.config["units"] ** 0.5
        attention = ops.softmax(scores)
        return ops.concatenate([sequence, ops.matmul(attention, cells)], axis=-1), attention


DECODERS: dict[str, type[Decoder]] = {decoder.kind: decoder for decoder in (ShowAndTell, ShowAttendTell)}


def new_decoder(model: ModelConfig, vocabulary_size: int, channels: int) -> Decoder:
    """Make a recipe's decoder, untrained, for features with `channels` numbers a cell."""
    decoder = DECODERS[model.decoder](
        vocabulary_size,
        channels,
        embedding_size=model.embedding_size,
        units=model.units,
        layers=model.layers,
        dropout=model.dropout,
        initializer_scale=model.initializer_scale,
    )
    decoder.build()
    return decoder


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


class ImageState(keras.Model):
    """The part of a decoder that starts a caption: features (N, G, D) -> what belongs to the image, sorted by name."""

    def __init__(self, decoder: Decoder):
        super().__init__()
        self.decoder = decoder

    def call(self, features: Any) -> list[Any]:
        """Return the parts of the state that never change."""
        state = self.decoder.image_state(features)
        return [state[name] for name in sorted(state)]


class NextWord(keras.Model):
    """The part of a decoder that goes on: [tokens (N,), *state] -> [log-probabilities (N, V), *what changed]."""

    def __init__(self, decoder: Decoder):
        super().__init__()
        self.decoder = decoder

    def call(self, inputs: list[Any]) -> list[Any]:
        """Return the log-probabilities of the next word, and the parts of the state that `tokens` changed."""
        tokens, *parts = inputs
        names = sorted(self.decoder.state_shapes())
        log_probabilities, following = self.decoder.next_word(tokens, dict(zip(names, parts, strict=True)))
        return [log_probabilities, *(following[name] for name in self.decoder.recurrent_state_names())]


class KerasDecoderStep:
    """A Keras decoder as a `DecoderStep`."""

    def __init__(self, decoder: Decoder):
        self._recurrent = decoder.recurrent_state_names()
        shapes = decoder.state_shapes()
        self._image_names = sorted(set(shapes) - set(self._recurrent))
        self._caption_shapes = {name: shape for name, shape in shapes.items() if name in self._recurrent}
        self._input_names = sorted(shapes)
        self._start, self._step = ImageState(decoder), NextWord(decoder)

    def start(self, features: np.ndarray) -> DecoderState:
        """Return the state before the first token from features (N, G, D) float32."""
        arrays = self._start.predict_on_batch(np.asarray(features, np.float32))
        return prime_state(self, dict(zip(self._image_names, arrays, strict=True)), self._caption_shapes)

    def __call__(self, tokens: np.ndarray, state: DecoderState) -> tuple[np.ndarray, DecoderState]:
        """Read tokens (N,); return log-probabilities (N, V) float32 and the next state."""
        arrays = {**state.image, **state.caption}
        inputs = [np.asarray(tokens, np.int32), *(arrays[name] for name in self._input_names)]
        log_probs, *outputs = self._step.predict_on_batch(inputs)
        caption = dict(zip(self._recurrent, outputs, strict=True))
        attention = caption.pop("attention", None)
        # A backend may return its own read-only memory.
        return np.require(log_probs, requirements="W"), state.advanced(caption, attention)


def set_word_vectors(decoder: Decoder, words: Sequence[str], vectors: dict[str, np.ndarray]) -> int:
    """Start the word embedding from pretrained vectors; return how many of the words have one."""
    table = np.array(decoder.word_embedding.get_weights()[0])
    known = [(row, vectors[word]) for row, word in enumerate(words) if word in vectors]
    for row, vector in known:
        table[row] = vector
    decoder.word_embedding.set_weights([table])
    return len(known)
