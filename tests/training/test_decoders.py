import subprocess
import sys

import keras
import numpy as np
import pytest

from showtell.errors import ConfigurationError
from showtell.inference.search import search
from showtell.inference.search_options import SearchOptions
from showtell.training.decoders import KerasDecoderStep, ShowAndTell, ShowAttendTell, set_word_vectors
from showtell.training.loss import MaskedCrossEntropy
from showtell.training.word_vectors import read_word_vectors
from showtell.vocabulary import PAD, START


def make_decoder(kind):
    keras.utils.set_random_seed(1)
    decoder = kind(vocabulary_size=11, channels=5, embedding_size=6, units=7, layers=2, dropout=0.5)
    decoder.build()
    return decoder


@pytest.fixture
def decoder():
    return make_decoder(ShowAndTell)


@pytest.fixture
def attention_decoder():
    return make_decoder(ShowAttendTell)


@pytest.fixture(params=[ShowAndTell, ShowAttendTell], ids=lambda kind: kind.kind)
def any_decoder(request):
    return make_decoder(request.param)


def random_features(images, cells=3):
    return np.random.default_rng(0).normal(size=(images, cells, 5)).astype(np.float32)


def lstm_step(layer, inputs, hidden, cell):
    """Return output and cell state of an LSTM step (Hochreiter and Schmidhuber, 1997) in NumPy."""
    kernel, recurrent, bias = layer.get_weights()

    def sigmoid(values):
        return 1 / (1 + np.exp(-values))

    gates = np.split(inputs @ kernel + hidden @ recurrent + bias, 4, axis=-1)
    input_gate, forget_gate, candidate, output_gate = gates  # the order of Keras
    cell = sigmoid(forget_gate) * cell + sigmoid(input_gate) * np.tanh(candidate)
    return sigmoid(output_gate) * np.tanh(cell), cell


def test_the_start_state_is_the_lstm_state_after_the_image(decoder):
    features = random_features(3, cells=4)
    kernel, bias = decoder.image_embedding.get_weights()
    output = features.mean(axis=1) @ kernel + bias
    state = KerasDecoderStep(decoder).start(features)
    for number, layer in enumerate(decoder.lstms):
        output, cell = lstm_step(layer, output, np.zeros((3, 7)), np.zeros((3, 7)))
        assert state.caption[f"hidden_{number}"] == pytest.approx(output, abs=1e-5)
        assert state.caption[f"cell_{number}"] == pytest.approx(cell, abs=1e-5)


def test_decoding_step_by_step_equals_teacher_forcing(any_decoder):
    decoder = any_decoder
    features, tokens = random_features(4), np.array([[START, 4, 5, 6]] * 2 + [[START, 7, 8, 9]] * 2)
    logits = keras.ops.convert_to_numpy(decoder({"features": features, "tokens": tokens}))
    expected = keras.ops.convert_to_numpy(keras.ops.log_softmax(logits))
    step = KerasDecoderStep(decoder)
    state = step.start(features)
    for position in range(tokens.shape[1]):
        log_probabilities, state = step(tokens[:, position], state)
        assert log_probabilities == pytest.approx(expected[:, position], abs=1e-5)


def test_the_context_is_the_attention_weighted_mean_of_the_cells(attention_decoder):
    features = random_features(2)
    step = KerasDecoderStep(attention_decoder)
    state = step.start(features)
    kernel, bias = attention_decoder.cell_embedding.get_weights()
    cells = np.maximum(features @ kernel + bias, 0)
    assert state.image["cells"] == pytest.approx(cells, abs=1e-5)
    words = attention_decoder.word_embedding.get_weights()[0][[4, 5]]
    query, _ = lstm_step(
        attention_decoder.attention_lstm, words, state.caption["hidden_attention"], state.caption["cell_attention"]
    )
    kernel, bias = attention_decoder.query.get_weights()
    weights = np.exp(np.einsum("nu,ngu->ng", query @ kernel + bias, cells) / np.sqrt(7))
    weights /= weights.sum(axis=1, keepdims=True)
    output = np.concatenate([query, np.einsum("ng,ngu->nu", weights, cells)], axis=1)
    for number, layer in enumerate(attention_decoder.lstms):
        output, _ = lstm_step(layer, output, state.caption[f"hidden_{number}"], state.caption[f"cell_{number}"])
    kernel, bias = attention_decoder.logits.get_weights()
    log_probabilities, next_state = step(np.array([4, 5]), state)
    assert next_state.attention == pytest.approx(weights, abs=1e-5)
    logits = output @ kernel + bias
    assert log_probabilities == pytest.approx(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), abs=1e-5)
    assert next_state.image["cells"] is state.image["cells"]


def test_training_changes_every_weight(any_decoder):
    any_decoder.compile(keras.optimizers.SGD(1.0), MaskedCrossEntropy(), jit_compile=False)
    before = any_decoder.get_weights()
    tokens = np.array([[START, 4, 6], [START, 5, 7]])
    any_decoder.train_on_batch({"features": random_features(2), "tokens": tokens}, np.array([[4, 6, 2], [5, 7, 2]]))
    for weight, old, new in zip(any_decoder.weights, before, any_decoder.get_weights(), strict=True):
        assert np.abs(new - old).max() > 0, weight.path


@pytest.mark.parametrize("kind", [ShowAndTell, ShowAttendTell])
def test_weight_names_do_not_depend_on_models_created_before(kind):
    first, second = (kind(11, 5, embedding_size=6, units=7, layers=2) for _ in range(2))
    for decoder in (first, second):
        decoder.build()
    named = first.named_weights()
    assert {id(weight) for weight in named.values()} == {id(weight) for weight in first.weights}
    assert named.keys() == second.named_weights().keys() >= {"word_embedding/embeddings", "lstm_1/bias"}


def test_dropout_is_applied_in_training_only(any_decoder):
    decoder = any_decoder
    inputs = {"features": random_features(2), "tokens": np.array([[START, 4], [START, 5]])}
    first, second = (keras.ops.convert_to_numpy(decoder(inputs)) for _ in range(2))
    dropped = keras.ops.convert_to_numpy(decoder(inputs, training=True))
    assert np.array_equal(first, second) and np.abs(first - dropped).max() > 1e-3


def test_uniform_initial_weights_stay_within_the_scale():
    decoder = ShowAndTell(50, 40, 30, 20, initializer_scale=0.08)
    decoder.build()
    for layer in (decoder.word_embedding, decoder.image_embedding, decoder.logits, *decoder.lstms):
        kernel = layer.get_weights()[0]
        assert 0.07 < np.abs(kernel).max() <= 0.08


def test_the_loss_is_the_mean_over_tokens_without_padding():
    logits = np.log(np.array([[[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25], [0.7, 0.1, 0.1, 0.1]]]))
    targets = np.array([[3, 1, PAD]])
    loss = float(MaskedCrossEntropy()(targets, logits))
    assert loss == pytest.approx((-np.log(0.4) - np.log(0.25)) / 2, abs=1e-6)
    smoothed = float(MaskedCrossEntropy(label_smoothing=0.2)(targets, logits))
    uniform = (-np.log([0.1, 0.2, 0.3, 0.4]).mean() - np.log(0.25)) / 2
    assert smoothed == pytest.approx(0.8 * loss + 0.2 * uniform, abs=1e-6)
    assert float(MaskedCrossEntropy()(np.full((1, 3), PAD), logits)) == 0.0


def test_a_decoder_is_saved_and_loaded_with_optimizer_and_dropout_state(any_decoder, tmp_path):
    decoder = any_decoder
    decoder.compile(keras.optimizers.Adam(0.01), MaskedCrossEntropy(0.1), jit_compile=False)
    batch = {"features": random_features(2), "tokens": np.array([[START, 4], [START, 5]])}, np.array([[4, 2], [5, 2]])
    decoder.train_on_batch(*batch)
    decoder.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    for model in (decoder, loaded):
        for _ in range(2):
            model.train_on_batch(*batch)
    assert int(loaded.optimizer.iterations) == 3
    for original, restored in zip(decoder.get_weights(), loaded.get_weights(), strict=True):
        assert np.array_equal(original, restored)


def test_word_vectors_initialise_the_embedding_and_are_counted(decoder, tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("dog 1 2 3 4 5 6\ncat 6 5 4 3 2 1\nunused 0 0 0 0 0 0\n")
    words = ["<pad>", "<start>", "<end>", "<unk>", "a", "dog", "cat", "in", "on", "at", "by"]
    before = decoder.word_embedding.get_weights()[0]
    assert set_word_vectors(decoder, words, read_word_vectors(path, 6, set(words))) == 2
    after = decoder.word_embedding.get_weights()[0]
    assert after[5].tolist() == [1, 2, 3, 4, 5, 6] and after[6].tolist() == [6, 5, 4, 3, 2, 1]
    assert np.array_equal(np.delete(after, [5, 6], axis=0), np.delete(before, [5, 6], axis=0))


def test_invalid_word_vectors_are_refused(tmp_path):
    path = tmp_path / "glove.txt"
    for content, reason in (("dog 1 2\n", "line 1: vector of size 2"), ("dog 1 2 x\n", "cannot read")):
        path.write_text(content)
        with pytest.raises(ConfigurationError, match=reason):
            read_word_vectors(path, 3, {"dog"})
    with pytest.raises(ConfigurationError, match="cannot read"):
        read_word_vectors(tmp_path / "absent.txt", 3, {"dog"})


TRAIN = """
import keras, numpy as np
from showtell.inference.search import search
from showtell.inference.search_options import SearchOptions
from showtell.training.decoders import KerasDecoderStep, ShowAndTell
from showtell.training.loss import MaskedCrossEntropy
keras.utils.set_random_seed(0)
decoder = ShowAndTell(8, 4, 16, 16, dropout=0.0)
decoder.build()
decoder.compile(keras.optimizers.Adam(0.02), MaskedCrossEntropy())
features = np.eye(4, dtype="float32")[:, None, :]
captions = np.array([[1, 4 + i, 7 - i, 2, 0] for i in range(4)])
for _ in range(100):
    loss = decoder.train_on_batch({"features": features, "tokens": captions[:, :-1]}, captions[:, 1:])
results = search(KerasDecoderStep(decoder), features, SearchOptions(max_length=5))
print(keras.backend.backend(), [list(best.tokens) for best, *_ in results])
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_decoder_can_be_trained_on_each_backend(backend, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    done = subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"{backend} [[4, 7], [5, 6], [6, 5], [7, 4]]", done.stderr


def test_beam_search_runs_on_a_keras_step(decoder):
    results = search(KerasDecoderStep(decoder), random_features(2), SearchOptions(beam_size=2, n_best=2, max_length=4))
    assert [len(captions) for captions in results] == [2, 2]
    assert all(captions[0].score >= captions[1].score for captions in results)
