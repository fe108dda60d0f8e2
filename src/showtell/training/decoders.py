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
    """Base class of the decoders: word embedding, LSTM layers, dropout and logits.

    `call` predicts the logits of whole captions for training. `image_state` and `next_word` are the two parts of a
    `DecoderStep`, which are exported to ONNX.

    Args:
        vocabulary_size: V, including special tokens.
        channels: D, the size of the feature vector of a grid cell.
        embedding_size: E, the word embedding size.
        units: U, the hidden size of the LSTM layers.
        layers: the number of LSTM layers. The attention LSTM of `ShowAttendTell` is not counted.
        dropout: the dropout rate.
        initializer_scale: if positive, all weights are initialised uniformly in ± this value.

    Attributes:
        kind: the name of the decoder in recipes and bundles.
        config: the arguments of the constructor.
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
        # The default of Keras, uniform in ± 0.05, hardly changes the gates of an LSTM and needs several more epochs.
        unit_normal = self._initializer(keras.initializers.RandomNormal(stddev=1.0))
        self.word_embedding = keras.layers.Embedding(vocabulary_size, embedding_size, unit_normal)
        self.image_embedding = self._dense(embedding_size)
        self.lstms = [self._lstm() for _ in range(layers)]
        self.logits = self._dense(vocabulary_size)
        self.dropout_seed = keras.random.SeedGenerator()

    def image_state(self, features: Any) -> StateArrays:
        """Compute the image arrays of the decoder state from features (N, G, D).

        One of them is "image" (N, E), the input of the first LSTM before the first word.
        """
        raise NotImplementedError

    def next_word(self, tokens: Any, state: StateArrays) -> tuple[Any, StateArrays]:
        """Read tokens (N,); return log-probabilities (N, V) and the new caption arrays of the decoder state.

        The token `<pad>` stands for the image. The state has the image arrays of N / k images, where the k captions of
        an image are adjacent rows; see `DecoderState`.
        """
        raise NotImplementedError

    def state_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Return the name and the shape, without the row axis, of each input array of `next_word`."""
        return {**self._lstm_shapes(), "image": (self.config["embedding_size"],)}

    def recurrent_state_names(self) -> list[str]:
        """Return the names of the arrays that `next_word` returns, sorted."""
        return sorted(self._lstm_shapes())

    def named_weights(self) -> dict[str, keras.Variable]:
        """Return the weights by stable names such as `logits/kernel`. The names of Keras contain a counter."""
        return {
            f"{name}/{weight.name}": weight for name, layer in self._named_layers().items() for weight in layer.weights
        }

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), **self.config}

    def save_own_variables(self, store: Any) -> None:
        """Save the random state of dropout, which Keras omits, so that a resumed training continues identically."""
        store["dropout_state"] = ops.convert_to_numpy(self.dropout_seed.state)

    def load_own_variables(self, store: Any) -> None:
        """Restore the random state of dropout."""
        self.dropout_seed.state.assign(store["dropout_state"])

    def _initializer(self, default: Any) -> Any:
        scale = self.config["initializer_scale"]
        return keras.initializers.RandomUniform(-scale, scale) if scale > 0 else default

    def _dense(self, size: int, activation: str | None = None) -> keras.layers.Dense:
        return keras.layers.Dense(size, activation, kernel_initializer=self._initializer("glorot_uniform"))

    def _lstm(self) -> keras.layers.LSTM:
        return keras.layers.LSTM(
            self.config["units"],
            return_sequences=True,
            kernel_initializer=self._initializer("glorot_uniform"),
            recurrent_initializer=self._initializer("orthogonal"),
        )

    def _apply_dropout(self, values: Any, training: bool) -> Any:
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

    def _embed_token(self, tokens: Any, image: Any) -> Any:
        """Embed tokens (N,) as vectors (N, E). `<pad>` becomes the vector of its image in `image` (I, E)."""
        tokens_by_image = ops.reshape(tokens, (ops.shape(image)[0], -1, 1))
        words = self.word_embedding(tokens_by_image[..., 0])
        vectors = ops.where(ops.equal(tokens_by_image, PAD), ops.cast(image, words.dtype)[:, None, :], words)
        return ops.reshape(vectors, (-1, self.config["embedding_size"]))

    def _lstm_step(self, name: str, values: Any, state: StateArrays, next_state: StateArrays) -> Any:
        """Apply one step of an LSTM to values (N, ..); write its new state to `next_state` and return its output."""
        hidden, cell = f"hidden_{name}", f"cell_{name}"
        output, (next_state[hidden], next_state[cell]) = self._all_lstms()[name].cell(
            values, [state[hidden], state[cell]]
        )
        return output


@keras.saving.register_keras_serializable("showtell")
class ShowAndTell(Decoder):
    """Show and Tell (Vinyals et al. 2015, https://arxiv.org/abs/1411.4555).

    A dense layer maps the features, averaged over the grid, to the word embedding size. The LSTM reads this vector
    first, and then the words of the caption. Its output for each word gives the logits of the next one. Dropout is
    applied to the input of each LSTM layer and of the logits.
    """

    kind = "show_and_tell"

    def build(self, input_shape: Any = None) -> None:
        """Create the weights. Their shapes depend on the configuration only."""
        embedding_size, units = self.config["embedding_size"], self.config["units"]
        self.word_embedding.build((None, None))
        self.image_embedding.build((None, self.config["channels"]))
        for layer, lstm in enumerate(self.lstms):
            lstm.build((None, None, units if layer else embedding_size))
        self.logits.build((None, None, units))
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Return logits (N, T, V) for `features` (N, G, D) and `tokens` (N, T), `<start>` first."""
        image = self._embed_image(inputs["features"])[:, None, :]
        sequence = ops.concatenate([image, self.word_embedding(inputs["tokens"])], axis=1)
        for lstm in self.lstms:
            sequence = lstm(self._apply_dropout(sequence, training))
        return self.logits(self._apply_dropout(sequence[:, 1:], training))

    def image_state(self, features: Any) -> StateArrays:
        """Return the vector (N, E) that the LSTM reads first, from features (N, G, D)."""
        return {"image": self._embed_image(features)}

    def next_word(self, tokens: Any, state: StateArrays) -> tuple[Any, StateArrays]:
        """Read tokens (N,); return log-probabilities (N, V) and the new caption arrays of the decoder state."""
        next_state: StateArrays = {}
        output = self._embed_token(tokens, state["image"])
        for name in self._all_lstms():
            output = self._lstm_step(name, output, state, next_state)
        return ops.log_softmax(ops.cast(self.logits(output), "float32")), next_state

    def _embed_image(self, features: Any) -> Any:
        return self.image_embedding(ops.mean(features, axis=1))


@keras.saving.register_keras_serializable("showtell")
class ShowAttendTell(Decoder):
    """Attention over the feature grid with an attention LSTM and language LSTMs.

    The attention LSTM reads the mean of the image first, as in `ShowAndTell`, and then the words of the caption. Its
    output is the query of an attention over the grid cells (scaled dot products, Vaswani et al. 2017,
    https://arxiv.org/abs/1706.03762). The language LSTM reads this output and the weighted mean of the cells, and gives
    the logits.

    The design follows Xu et al. (2015, https://arxiv.org/abs/1502.03044) and the bottom-up and top-down attention of
    Anderson et al. (2018, https://arxiv.org/abs/1707.07998). Unlike in the latter, the output of the language LSTM is
    not fed back to the attention LSTM. Each LSTM can therefore process a whole caption at once in training, which takes
    a third of the time.

    Dropout is applied to the cells and to the input of each LSTM layer and of the logits.
    """

    kind = "show_attend_tell"

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.cell_embedding = self._dense(self.config["units"], "relu")
        self.attention_lstm = self._lstm()
        self.query = self._dense(self.config["units"])

    def build(self, input_shape: Any = None) -> None:
        """Create the weights. Their shapes depend on the configuration only."""
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
        """Return logits (N, T, V) for `features` (N, G, D) and `tokens` (N, T), `<start>` first."""
        cells = self._apply_dropout(self.cell_embedding(inputs["features"]), training)
        image = self.image_embedding(ops.mean(cells, axis=1))[:, None, :]
        sequence = ops.concatenate([image, self.word_embedding(inputs["tokens"])], axis=1)
        sequence = self.attention_lstm(self._apply_dropout(sequence, training))
        sequence, _ = self._attend(sequence, cells)
        for lstm in self.lstms:
            sequence = lstm(self._apply_dropout(sequence, training))
        return self.logits(self._apply_dropout(sequence[:, 1:], training))

    def image_state(self, features: Any) -> StateArrays:
        """Return the cells (N, G, U) for attention and the first input vector (N, E), from features (N, G, D)."""
        cells = self.cell_embedding(features)
        return {"image": self.image_embedding(ops.mean(cells, axis=1)), "cells": cells}

    def next_word(self, tokens: Any, state: StateArrays) -> tuple[Any, StateArrays]:
        """Read tokens (N,); return log-probabilities (N, V) and the new caption arrays of the decoder state."""
        next_state: StateArrays = {}
        units, cells = self.config["units"], state["cells"]
        output = self._lstm_step("attention", self._embed_token(tokens, state["image"]), state, next_state)
        attended, attention = self._attend(ops.reshape(output, (ops.shape(cells)[0], -1, units)), cells)
        next_state["attention"] = ops.reshape(attention, (-1, ops.shape(cells)[1]))
        output = ops.reshape(attended, (-1, 2 * units))
        for name in super()._all_lstms():
            output = self._lstm_step(name, output, state, next_state)
        return ops.log_softmax(ops.cast(self.logits(output), "float32")), next_state

    def state_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Return the name and the shape, without the row axis, of each input array of `next_word`."""
        return {**super().state_shapes(), "cells": (None, self.config["units"])}

    def recurrent_state_names(self) -> list[str]:
        """Return the names of the arrays that `next_word` returns, sorted; "attention" (N, G) is one of them."""
        return sorted([*self._lstm_shapes(), "attention"])

    def _named_layers(self) -> dict[str, keras.layers.Layer]:
        return {**super()._named_layers(), "cell_embedding": self.cell_embedding, "query": self.query}

    def _all_lstms(self) -> dict[str, keras.layers.LSTM]:
        return {"attention": self.attention_lstm, **super()._all_lstms()}

    def _attend(self, sequence: Any, cells: Any) -> tuple[Any, Any]:
        """Attend to cells (N, G, U).

        Args:
            sequence: (N, T, U) outputs of the attention LSTM.
            cells: (N, G, U) embedded grid cells.

        Returns:
            (N, T, 2 U) the outputs, each with the weighted mean of the cells appended, and (N, T, G) attention weights.
        """
        scores = ops.matmul(self.query(sequence), ops.transpose(cells, (0, 2, 1))) / self.config["units"] ** 0.5
        attention = ops.softmax(scores)
        return ops.concatenate([sequence, ops.matmul(attention, cells)], axis=-1), attention


DECODERS: dict[str, type[Decoder]] = {decoder.kind: decoder for decoder in (ShowAndTell, ShowAttendTell)}


def build_decoder(model: ModelConfig, vocabulary_size: int, channels: int) -> Decoder:
    """Build an untrained decoder for features (N, G, `channels`)."""
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


class ImageState(keras.Model):
    """The first part of a decoder: features (N, G, D) -> image arrays of the decoder state, sorted by name."""

    def __init__(self, decoder: Decoder):
        super().__init__()
        self.decoder = decoder

    def call(self, features: Any) -> list[Any]:
        """Return the image arrays."""
        state = self.decoder.image_state(features)
        return [state[name] for name in sorted(state)]


class NextWord(keras.Model):
    """The second part of a decoder: [tokens (N,), *state] -> [log-probabilities (N, V), *new caption arrays]."""

    def __init__(self, decoder: Decoder):
        super().__init__()
        self.decoder = decoder

    def call(self, inputs: list[Any]) -> list[Any]:
        """Return the log-probabilities of the next word, and the new caption arrays sorted by name."""
        tokens, *arrays = inputs
        names = sorted(self.decoder.state_shapes())
        log_probabilities, next_state = self.decoder.next_word(tokens, dict(zip(names, arrays, strict=True)))
        return [log_probabilities, *(next_state[name] for name in self.decoder.recurrent_state_names())]


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
        # The backend may return a read-only array.
        return np.require(log_probs, requirements="W"), state.advanced(caption, attention)


def set_word_vectors(decoder: Decoder, words: Sequence[str], vectors: dict[str, np.ndarray]) -> int:
    """Initialise the word embedding with pretrained vectors; return the number of words that have one."""
    table = np.array(decoder.word_embedding.get_weights()[0])
    known = [(row, vectors[word]) for row, word in enumerate(words) if word in vectors]
    for row, vector in known:
        table[row] = vector
    decoder.word_embedding.set_weights([table])
    return len(known)
