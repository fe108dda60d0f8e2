"""Training that starts from a captioner that is there."""

import json
from dataclasses import replace

import keras
import numpy as np
import onnx
import pytest

from showtell.cli import app
from showtell.data import load_examples
from showtell.data.tutorial import write
from showtell.errors import BundleError, ConfigurationError, MismatchError
from showtell.inference.bundle import Bundle
from showtell.inference.onnx_models import OnnxEncoder, open_session
from showtell.inference.search import SearchOptions, search
from showtell.recipe import Recipe
from showtell.training import pipeline
from showtell.training.cross_entropy import CrossEntropy
from showtell.training.decoders import KerasDecoderStep, new_decoder
from showtell.training.encoders import load_encoder, trainable_network
from showtell.training.graphs import network_graph
from showtell.training.quantize import calibration_images, quantize_decoder, quantize_encoder
from showtell.training.run import Run, save_model
from showtell.training.warm_start import load_extended_weights, load_warm_start
from showtell.vocabulary import SPECIAL_TOKENS

RECIPE = Recipe().override(
    {"decoder": "show_attend_tell", "embedding_size": 12, "units": 16, "grid": True, "epochs": 1, "batch_size": 8}
)
# What the second set of pictures has to say beyond the first.
NEW_WORDS = {"above", "left", "of", "the", "to"}


def prepared(folder, pictures, recipe=RECIPE, start=None):
    examples = load_examples(pictures)
    sources = pipeline.prepare_run(folder, recipe, examples, pictures, False, print, lambda done, total: None, start)
    return pipeline.create_run(folder, recipe, sources, start)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write(folder, 30, 0, False)
    return folder


@pytest.fixture(scope="module")
def relations(tmp_path_factory):
    folder = tmp_path_factory.mktemp("relations")
    write(folder, 30, 0, True)
    return folder


@pytest.fixture(scope="module")
def old(tmp_path_factory, shapes):
    """A run whose decoder has weights that no other one has."""
    run, training, _ = prepared(tmp_path_factory.mktemp("runs") / "old", shapes)
    decoder = new_decoder(run.recipe.model, len(run.vocabulary), training.features.shape[2])
    random = np.random.default_rng(0)
    decoder.set_weights([random.normal(0, 0.7, weight.shape).astype("float32") for weight in decoder.get_weights()])
    save_model(decoder, run.best)
    return run


@pytest.fixture(scope="module")
def bundle(old):
    """The path of the run's bundle, as a float one."""
    path = old.folder.parent / "old.zip"
    pipeline.export_run(old.folder, path, False, (), None, None, None, print)
    return path


def test_weights_come_from_a_run_and_from_a_float_bundle_exactly_and_in_8_bits_nearly(old, bundle, tmp_path):
    loaded = Bundle.load(bundle)
    names = ("decoder_start.onnx", "decoder_step.onnx")
    features = np.random.default_rng(0).normal(size=(4, old.encoder.cells, old.encoder.channels)).astype("float32")
    files = dict(zip(names, quantize_decoder(*(loaded.files[n] for n in names), features, loaded.search), strict=True))
    replace(loaded, files={**loaded.files, **files}).save(tmp_path / "int8")
    expected = keras.models.load_model(old.best).named_weights()
    run, exact, near = (load_warm_start(path) for path in (old.folder, bundle, tmp_path / "int8"))
    for start in (run, exact, near):
        assert start.weights.keys() == expected.keys() and "lstm_attention/recurrent_kernel" in expected
        assert start.vocabulary.tokens == old.vocabulary.tokens and start.encoder == old.encoder
        assert start.encoder_model is None  # it is the one that ships
        assert start.load_encoder().info == old.encoder
    for name, weight in expected.items():
        assert np.array_equal(run.weights[name], weight.numpy()), name
        assert np.array_equal(exact.weights[name], weight.numpy()), name
        step = float(np.abs(weight.numpy()).max()) / 127
        assert near.weights[name] == pytest.approx(weight.numpy(), abs=step), name


def test_a_grown_decoder_says_what_the_old_one_said(old, relations, tmp_path):
    start = load_warm_start(old.folder)
    run, training, _ = prepared(tmp_path / "run", relations, Recipe(), start)
    count = len(start.vocabulary)
    assert run.vocabulary.tokens[:count] == start.vocabulary.tokens
    assert set(run.vocabulary.tokens[count:]) == NEW_WORDS
    assert run.recipe.model.decoder == "show_attend_tell" and run.recipe.model.units == 16 and run.recipe.encoder.grid

    before = keras.models.load_model(old.best)
    after = CrossEntropy(run, training, print).new_model()
    inputs = {"features": training.features[:8].astype("float32"), "tokens": np.tile([1, *range(4, 12)], (8, 1))}
    ours, theirs = (keras.ops.convert_to_numpy(keras.ops.softmax(model(inputs))) for model in (after, before))
    known = ours[..., :count]
    assert known / known.sum(axis=-1, keepdims=True) == pytest.approx(theirs, abs=1e-5)
    assert ours[..., count:].min() > 0 and ours[..., count:].max() < 1 / count
    options = SearchOptions(beam_size=1, max_length=10, strategy="greedy")
    said, says = (
        [
            [caption.tokens for caption in found]
            for found in search(KerasDecoderStep(model), inputs["features"], options)
        ]
        for model in (before, after)
    )
    assert says == said and len({str(tokens) for tokens in said}) > 1


def test_what_a_start_keeps_cannot_be_asked_to_be_otherwise(old):
    start = load_warm_start(old.folder)
    kept = start.applied_to(Recipe())
    asked = {
        "tokenizer": "char",
        "decoder": "show_and_tell",
        "layers": 2,
        "encoder": "resnet50",
        "grid": False,
        "beam_size": 5,
    }
    for name, value in asked.items():
        with pytest.raises(ConfigurationError, match=f"--{name.replace('_', '-')} {value} with --start-from"):
            start.require_agreement({name: value, "dropout": 0.1})
        assert kept.override({name: value}) != kept
    start.require_agreement({"units": 16, "grid": True, "dropout": 0.1, "min_count": 2})


def test_new_words_begin_with_fresh_vectors_and_the_mean_logit():
    model = replace(Recipe().model, embedding_size=2, units=2)
    small, large = new_decoder(model, 5, 3), new_decoder(model, 7, 3)
    fresh = large.word_embedding.get_weights()[0]
    small.logits.set_weights([np.array([[1.0, 2, 3, 4, 10], [0, 0, 0, 0, 5]]), np.array([0.0, 0, -1, -2, -7])])
    weights = {name: weight.numpy() for name, weight in small.named_weights().items()}
    assert load_extended_weights(large, weights) == 2
    kernel, bias = large.logits.get_weights()
    assert kernel.tolist() == [[1, 2, 3, 4, 10, 4, 4], [0, 0, 0, 0, 5, 1, 1]] and bias[4:].tolist() == [-7, -2, -2]
    words = large.word_embedding.get_weights()[0]
    assert np.array_equal(words[:5], weights["word_embedding/embeddings"]) and np.array_equal(words[5:], fresh[5:])


def test_features_of_another_encoder_and_words_in_another_order_are_refused(old, relations, tmp_path):
    start = load_warm_start(old.folder)
    own, _, _ = prepared(tmp_path / "own", relations)  # with a vocabulary of its own
    with pytest.raises(MismatchError, match=r"does not begin with the .* showtell prepare --start-from"):
        pipeline.create_run(tmp_path / "run", RECIPE, own.sources, start)
    prepare = ["prepare", "--captions", str(relations), "-o", str(tmp_path / "c.h5"), "--start-from", str(old.folder)]
    with pytest.raises(ConfigurationError, match="--tokenizer bpe with --start-from"):
        app([*prepare, "--tokenizer", "bpe"], standalone_mode=False)
    app([*prepare, "--tokenizer", "word"], standalone_mode=False)
    right = replace(own.sources, captions=str(tmp_path / "c.h5"))
    pooled = tmp_path / "pooled.npy"
    app(["extract", str(relations), "-o", str(pooled)], standalone_mode=False)
    np.save(tmp_path / "nameless.npy", np.load(own.sources.features[0]))
    for wrong in (pooled, tmp_path / "nameless.npy"):
        with pytest.raises(MismatchError, match=f"{wrong.name} was made with .* showtell extract --start-from"):
            pipeline.create_run(tmp_path / "run", RECIPE, replace(right, features=(str(wrong),) * 2), start)
    assert not (tmp_path / "run").exists()
    run, _, _ = pipeline.create_run(tmp_path / "run", RECIPE, right, start)
    assert set(run.vocabulary.tokens[len(start.vocabulary) :]) == NEW_WORDS


def test_a_bundle_that_does_not_name_its_weights_is_refused(bundle, tmp_path):
    loaded = Bundle.load(bundle)
    model = onnx.load_from_string(loaded.files["decoder_step.onnx"])
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.replace("logits/", "dense_1/")
    replace(loaded, files={**loaded.files, "decoder_step.onnx": model.SerializeToString()}).save(tmp_path / "b")
    with pytest.raises(BundleError, match=r"does not name its decoder's weights \(logits/kernel\)"):
        load_warm_start(tmp_path / "b")
    replace(loaded, decoder={**loaded.decoder, "kind": "transformer"}).save(tmp_path / "c")
    with pytest.raises(BundleError, match="update showtell"):
        load_warm_start(tmp_path / "c")
    with pytest.raises(BundleError, match="no such bundle"):
        load_warm_start(tmp_path / "absent")


def test_an_encoder_that_was_fine_tuned_goes_on_with_the_run(old, bundle, relations, tmp_path):
    table = load_encoder(old.recipe.encoder)
    network = trainable_network(old.recipe.encoder, 1)
    *_, last = (layer for layer in network.layers if layer.weights)
    last.set_weights([weight * 1.5 for weight in last.get_weights()])
    tuned = network_graph(table.info, network).SerializeToString()
    info = replace(table.info, fingerprint="tuned")
    loaded = Bundle.load(bundle)
    replace(loaded, encoder=info, files={**loaded.files, "encoder.onnx": tuned}).save(tmp_path / "tuned")

    start = load_warm_start(tmp_path / "tuned")
    recipe = RECIPE.override({"fine_tuning_epochs": 1})
    run, training, _ = prepared(tmp_path / "run", relations, recipe, start)
    assert run.encoder == info and Run.open(run.folder).start_encoder.read_bytes() == tuned
    pixels = calibration_images(info.preprocess, relations, training.images[:2])
    expected = OnnxEncoder(open_session(tuned), info).encode(pixels)
    assert training.features[training.image_rows[:2]] == pytest.approx(expected, abs=0.01)
    assert np.abs(table.encode(pixels) - expected).max() > 0.5
    trained = trainable_network(run.recipe.encoder, 1, run.start_encoder)
    assert np.asarray(trained(pixels)) == pytest.approx(expected, abs=0.01)

    int8 = {**loaded.files, "encoder.onnx": quantize_encoder(tuned, pixels)}
    replace(loaded, encoder=info, files=int8).save(tmp_path / "int8")
    start = load_warm_start(tmp_path / "int8")
    with pytest.raises(ConfigurationError, match="in 8 bits and cannot be fine-tuned"):
        start.applied_to(recipe)
    run, training, _ = prepared(tmp_path / "again", relations, RECIPE, start)
    save_model(CrossEntropy(run, training, print).new_model(), run.best)
    exported = pipeline.export_run(run.folder, tmp_path / "out", True, (), None, None, None, print)
    assert exported.encoder == info and exported.files["encoder.onnx"] == int8["encoder.onnx"]
    assert load_warm_start(run.folder).encoder_model == int8["encoder.onnx"]


def test_from_a_bundle_to_another_on_the_command_line(bundle, relations, showtell, tmp_path):
    run, better = tmp_path / "run", tmp_path / "better.zip"
    settings = ["--images", relations, "--epochs", 2, "--batch-size", 8, "--dropout", 0]
    command = ["train", "-o", run, "--start-from", bundle, *settings]
    refused = showtell(*command, "--units", 8, status=2)
    assert "--units 8 with" in refused.stderr and "has 16" in refused.stderr and not run.exists()
    done = showtell(*command, "--units", 16)
    assert f"starting from {bundle}, with 5 new words" in done.stderr
    records = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [0, 1, 2] and records[0]["loss"] is None
    assert records[-1]["val_loss"] < records[0]["val_loss"]
    assert json.loads((run / "settings.json").read_text())["sources"]["start_from"] == str(bundle)
    assert "the run is finished" in showtell("train", "-o", run, "--resume").stderr
    assert "no others" in showtell("train", "-o", run, "--resume", "--start-from", bundle, status=2).stderr
    showtell("export", run, "-o", better)
    assert len(showtell("caption", relations / "images" / "0000.png", "--model", better).stdout.splitlines()) == 1
    words = Bundle.load(better).vocabulary.tokens
    assert words[:4] == SPECIAL_TOKENS and words[: -len(NEW_WORDS)] == Bundle.load(bundle).vocabulary.tokens
