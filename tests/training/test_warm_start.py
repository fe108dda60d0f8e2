"""Training that starts from a run or a bundle."""

import json
from dataclasses import replace

import keras
import numpy as np
import onnx
import pytest

from showtell.cli import app
from showtell.data import load_examples
from showtell.data.tutorial import write_tutorial_data
from showtell.errors import BundleError, ConfigurationError, MismatchError
from showtell.inference.bundle import Bundle
from showtell.inference.onnx_models import OnnxEncoder, open_session
from showtell.inference.search import search
from showtell.inference.search_options import SearchOptions
from showtell.recipe import Recipe
from showtell.training import pipeline
from showtell.training.checkpoints import save_model
from showtell.training.cross_entropy import CrossEntropy
from showtell.training.decoders import KerasDecoderStep, build_decoder
from showtell.training.encoders import build_trainable_network, load_encoder
from showtell.training.onnx_graphs import export_network
from showtell.training.quantize import load_calibration_images, quantize_decoder, quantize_encoder
from showtell.training.run import Run
from showtell.training.warm_start import load_extended_weights, load_warm_start
from showtell.vocabulary import SPECIAL_TOKENS

RECIPE = Recipe().override(
    {"decoder": "show_attend_tell", "embedding_size": 12, "units": 16, "grid": True, "epochs": 1, "batch_size": 8}
)
# Words of the second data set that the first does not have.
NEW_WORDS = {"above", "left", "of", "the", "to"}


def create_run(folder, images, recipe=RECIPE, start=None):
    data = pipeline.TrainingData(images=[images])
    data_paths = pipeline.prepare_data(folder, recipe, load_examples(images), data, start)
    return pipeline.create_run(folder, recipe, data_paths, start)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_tutorial_data(folder, 30, 0, False)
    return folder


@pytest.fixture(scope="module")
def relations(tmp_path_factory):
    folder = tmp_path_factory.mktemp("relations")
    write_tutorial_data(folder, 30, 0, True)
    return folder


@pytest.fixture(scope="module")
def old(tmp_path_factory, shapes):
    """A run whose decoder has random weights."""
    run, training, _ = create_run(tmp_path_factory.mktemp("runs") / "old", shapes)
    decoder = build_decoder(run.recipe.model, len(run.vocabulary), training.features.shape[2])
    random = np.random.default_rng(0)
    decoder.set_weights([random.normal(0, 0.7, weight.shape).astype("float32") for weight in decoder.get_weights()])
    save_model(decoder, run.best_path)
    return run


@pytest.fixture(scope="module")
def bundle(old):
    """The path of the run's float bundle."""
    path = old.folder.parent / "old.zip"
    pipeline.export_run(old.folder, path)
    return path


def test_weights_are_exact_from_runs_and_float_bundles_and_close_from_int8_bundles(old, bundle, tmp_path):
    loaded = Bundle.load(bundle)
    names = ("decoder_start.onnx", "decoder_step.onnx")
    features = np.random.default_rng(0).normal(size=(4, old.encoder.cells, old.encoder.channels)).astype("float32")
    files = dict(
        zip(names, quantize_decoder(*(loaded.files[n] for n in names), features, loaded.search_options), strict=True)
    )
    replace(loaded, files={**loaded.files, **files}).save(tmp_path / "int8")
    expected = keras.models.load_model(old.best_path).named_weights()
    run, exact, quantized = (load_warm_start(path) for path in (old.folder, bundle, tmp_path / "int8"))
    for start in (run, exact, quantized):
        assert start.weights.keys() == expected.keys() and "lstm_attention/recurrent_kernel" in expected
        assert start.vocabulary.tokens == old.vocabulary.tokens and start.encoder == old.encoder
        assert start.encoder_model is None  # the shipped encoder
        assert start.load_encoder().info == old.encoder
    for name, weight in expected.items():
        assert np.array_equal(run.weights[name], weight.numpy()), name
        assert np.array_equal(exact.weights[name], weight.numpy()), name
        step = float(np.abs(weight.numpy()).max()) / 127
        assert quantized.weights[name] == pytest.approx(weight.numpy(), abs=step), name


def test_a_decoder_with_new_words_generates_the_same_captions(old, relations, tmp_path):
    start = load_warm_start(old.folder)
    run, training, _ = create_run(tmp_path / "run", relations, Recipe(), start)
    count = len(start.vocabulary)
    assert run.vocabulary.tokens[:count] == start.vocabulary.tokens
    assert set(run.vocabulary.tokens[count:]) == NEW_WORDS
    assert run.recipe.model.decoder == "show_attend_tell" and run.recipe.model.units == 16 and run.recipe.encoder.grid

    before = keras.models.load_model(old.best_path)
    after = CrossEntropy(run, training).build_model()
    inputs = {"features": training.features[:8].astype("float32"), "tokens": np.tile([1, *range(4, 12)], (8, 1))}
    probs, old_probs = (keras.ops.convert_to_numpy(keras.ops.softmax(model(inputs))) for model in (after, before))
    known = probs[..., :count]
    assert known / known.sum(axis=-1, keepdims=True) == pytest.approx(old_probs, abs=1e-5)
    assert probs[..., count:].min() > 0 and probs[..., count:].max() < 1 / count
    options = SearchOptions(beam_size=1, max_length=10, strategy="greedy")
    old_captions, new_captions = (
        [best.tokens for best, *_ in search(KerasDecoderStep(model), inputs["features"], options)]
        for model in (before, after)
    )
    assert new_captions == old_captions and len(set(old_captions)) > 1


def test_settings_that_contradict_the_start_are_refused(old):
    start = load_warm_start(old.folder)
    recipe = start.apply_to(Recipe())
    contradictions = {
        "tokenizer": "char",
        "decoder": "show_and_tell",
        "layers": 2,
        "encoder": "resnet50",
        "grid": False,
        "beam_size": 5,
    }
    for name, value in contradictions.items():
        with pytest.raises(ConfigurationError, match=f"--{name.replace('_', '-')} {value} contradicts --start-from"):
            start.require_agreement({name: value, "dropout": 0.1})
        assert recipe.override({name: value}) != recipe
    start.require_agreement({"units": 16, "grid": True, "dropout": 0.1, "min_count": 2})


def test_new_words_start_with_random_embeddings_and_the_mean_logit():
    model = replace(Recipe().model, embedding_size=2, units=2)
    small, large = build_decoder(model, 5, 3), build_decoder(model, 7, 3)
    initial = large.word_embedding.get_weights()[0]
    small.logits.set_weights([np.array([[1.0, 2, 3, 4, 10], [0, 0, 0, 0, 5]]), np.array([0.0, 0, -1, -2, -7])])
    weights = {name: weight.numpy() for name, weight in small.named_weights().items()}
    assert load_extended_weights(large, weights) == 2
    kernel, bias = large.logits.get_weights()
    assert kernel.tolist() == [[1, 2, 3, 4, 10, 4, 4], [0, 0, 0, 0, 5, 1, 1]] and bias[4:].tolist() == [-7, -2, -2]
    words = large.word_embedding.get_weights()[0]
    assert np.array_equal(words[:5], weights["word_embedding/embeddings"]) and np.array_equal(words[5:], initial[5:])


def test_another_encoder_or_another_vocabulary_order_is_refused(old, relations, tmp_path):
    start = load_warm_start(old.folder)
    own, _, _ = create_run(tmp_path / "own", relations)  # has its own vocabulary
    with pytest.raises(MismatchError, match=r"does not start with the .* showtell prepare --start-from"):
        pipeline.create_run(tmp_path / "run", RECIPE, own.data_paths, start)
    prepare = ["prepare", "--captions", str(relations), "-o", str(tmp_path / "c.h5"), "--start-from", str(old.folder)]
    with pytest.raises(ConfigurationError, match="--tokenizer bpe contradicts --start-from"):
        app([*prepare, "--tokenizer", "bpe"], standalone_mode=False)
    app([*prepare, "--tokenizer", "word"], standalone_mode=False)
    right = replace(own.data_paths, captions=str(tmp_path / "c.h5"))
    pooled = tmp_path / "pooled.npy"
    app(["extract", str(relations), "-o", str(pooled)], standalone_mode=False)
    np.save(tmp_path / "nameless.npy", np.load(own.data_paths.features[0]))
    for wrong in (pooled, tmp_path / "nameless.npy"):
        with pytest.raises(MismatchError, match=f"{wrong.name} was made with .* showtell extract --start-from"):
            pipeline.create_run(tmp_path / "run", RECIPE, replace(right, features=(str(wrong),) * 2), start)
    assert not (tmp_path / "run").exists()
    run, _, _ = pipeline.create_run(tmp_path / "run", RECIPE, right, start)
    assert set(run.vocabulary.tokens[len(start.vocabulary) :]) == NEW_WORDS


def test_a_bundle_without_weight_names_is_refused(bundle, tmp_path):
    loaded = Bundle.load(bundle)
    model = onnx.load_from_string(loaded.files["decoder_step.onnx"])
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.replace("logits/", "dense_1/")
    replace(loaded, files={**loaded.files, "decoder_step.onnx": model.SerializeToString()}).save(tmp_path / "b")
    with pytest.raises(BundleError, match=r"weights have no names \(logits/kernel\)"):
        load_warm_start(tmp_path / "b")
    replace(loaded, decoder={**loaded.decoder, "kind": "transformer"}).save(tmp_path / "c")
    with pytest.raises(BundleError, match="update showtell"):
        load_warm_start(tmp_path / "c")
    with pytest.raises(BundleError, match="no such bundle"):
        load_warm_start(tmp_path / "absent")


def test_a_fine_tuned_encoder_is_passed_on_to_the_new_run(old, bundle, relations, tmp_path):
    shipped = load_encoder(old.recipe.encoder)
    network = build_trainable_network(old.recipe.encoder, 1)
    *_, last = (layer for layer in network.layers if layer.weights)
    last.set_weights([weight * 1.5 for weight in last.get_weights()])
    tuned = export_network(shipped.info, network).SerializeToString()
    info = replace(shipped.info, fingerprint="tuned")
    loaded = Bundle.load(bundle)
    replace(loaded, encoder=info, files={**loaded.files, "encoder.onnx": tuned}).save(tmp_path / "tuned")

    start = load_warm_start(tmp_path / "tuned")
    recipe = RECIPE.override({"fine_tuning_epochs": 1})
    run, training, _ = create_run(tmp_path / "run", relations, recipe, start)
    assert run.encoder == info and Run.open(run.folder).start_encoder.read_bytes() == tuned
    pixels = load_calibration_images(info.preprocess, relations, training.images[:2])
    expected = OnnxEncoder(open_session(tuned), info).encode(pixels)
    assert training.features[training.image_rows[:2]] == pytest.approx(expected, abs=0.01)
    assert np.abs(shipped.encode(pixels) - expected).max() > 0.5
    trained = build_trainable_network(run.recipe.encoder, 1, run.start_encoder)
    assert np.asarray(trained(pixels)) == pytest.approx(expected, abs=0.01)

    int8 = {**loaded.files, "encoder.onnx": quantize_encoder(tuned, pixels)}
    replace(loaded, encoder=info, files=int8).save(tmp_path / "int8")
    start = load_warm_start(tmp_path / "int8")
    with pytest.raises(ConfigurationError, match="an int8 encoder cannot be fine-tuned"):
        start.apply_to(recipe)
    run, training, _ = create_run(tmp_path / "again", relations, RECIPE, start)
    save_model(CrossEntropy(run, training).build_model(), run.best_path)
    exported = pipeline.export_run(run.folder, tmp_path / "out", pipeline.ExportOptions(int8=True))
    assert exported.encoder == info and exported.files["encoder.onnx"] == int8["encoder.onnx"]
    assert load_warm_start(run.folder).encoder_model == int8["encoder.onnx"]


def test_the_command_line_trains_from_a_bundle_to_another(bundle, relations, showtell, tmp_path):
    run, better = tmp_path / "run", tmp_path / "better.zip"
    settings = ["--images", relations, "--epochs", 2, "--batch-size", 8, "--dropout", 0]
    command = ["train", "-o", run, "--start-from", bundle, *settings]
    refused = showtell(*command, "--units", 8, status=2)
    assert "--units 8 contradicts" in refused.stderr and "has 16" in refused.stderr and not run.exists()
    done = showtell(*command, "--units", 16)
    assert f"starting from {bundle}, with 5 new words" in done.stderr
    records = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [0, 1, 2] and records[0]["loss"] is None
    assert records[-1]["val_loss"] < records[0]["val_loss"]
    assert json.loads((run / "settings.json").read_text())["sources"]["start_from"] == str(bundle)
    assert "the run is finished" in showtell("train", "-o", run, "--resume").stderr
    assert (
        "leave out all other options"
        in showtell("train", "-o", run, "--resume", "--start-from", bundle, status=2).stderr
    )
    showtell("export", run, "-o", better)
    assert len(showtell("caption", relations / "images" / "0000.png", "--model", better).stdout.splitlines()) == 1
    words = Bundle.load(better).vocabulary.tokens
    assert words[:4] == SPECIAL_TOKENS and words[: -len(NEW_WORDS)] == Bundle.load(bundle).vocabulary.tokens
