import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from helpers import EXAMPLES

from showtell.encoder import EncoderInfo
from showtell.images import Preprocess, find_images
from showtell.inference.onnx_models import OnnxEncoder, open_session
from showtell.recipe import EncoderConfig
from showtell.training.efficientnet_lite import network
from showtell.training.encoders import EFFICIENTNET_LITE2, load_encoder, trainable_network
from showtell.training.graphs import encoder_graph, network_graph

SHAPES = {"grid": (49, 352), "pooled": (1, 1280)}


@pytest.fixture(scope="module")
def images():
    return np.stack([Preprocess().load(path) for path in find_images([EXAMPLES])][:3])


def shipped(output):
    return load_encoder(EncoderConfig(grid=output == "grid"))


def info_of(output):
    return EncoderInfo("efficientnet_lite2", "", Preprocess(), *SHAPES[output])


@pytest.mark.parametrize("output", SHAPES)
def test_keras_gives_the_features_of_the_file(images, output):
    found = network(EFFICIENTNET_LITE2, output).predict_on_batch(images)
    expected = shipped(output).encode(images)
    assert found.shape == (3, *SHAPES[output]) and np.abs(expected).max() > 1
    assert found == pytest.approx(expected, abs=1e-3)


def test_jax_gives_the_features_of_the_file(images, tmp_path):
    program = f"""
import sys
from pathlib import Path
import numpy as np
from showtell.training.efficientnet_lite import network
model = network(Path({str(EFFICIENTNET_LITE2)!r}), "grid")
np.save(sys.argv[2], model.predict_on_batch(np.load(sys.argv[1])))
"""
    np.save(tmp_path / "images.npy", images[:1])
    paths = [str(tmp_path / "images.npy"), str(tmp_path / "features.npy")]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", program, *paths], check=True, env=environment)
    assert np.load(paths[1]) == pytest.approx(shipped("grid").encode(images[:1]), abs=1e-3)


@pytest.mark.parametrize("output", SHAPES)
def test_changed_weights_are_written_back(images, output):
    model = network(EFFICIENTNET_LITE2, output)
    before = model.predict_on_batch(images)
    random = np.random.default_rng(0)
    for variable in model.weights:
        changed = np.asarray(variable) * random.normal(1, 0.02, variable.shape)
        variable.assign(changed.astype(np.float16).astype(np.float32))  # what half precision can hold
    after = model.predict_on_batch(images)
    written = network_graph(info_of(output), model)
    onnx.checker.check_model(written, full_check=True)
    found = OnnxEncoder(open_session(written.SerializeToString()), info_of(output)).encode(images)
    assert np.linalg.norm(after - before) > 0.2 * np.linalg.norm(after), "the old weights would do as well"
    assert found == pytest.approx(after, abs=1e-3)


def test_unchanged_weights_are_written_as_they_were():
    assert network_graph(info_of("grid"), network(EFFICIENTNET_LITE2, "grid")) == encoder_graph(shipped("grid"))


def test_the_last_layers_alone_learn():
    model = trainable_network(EncoderConfig(grid=True), 4)
    learning = ["block19_project", "block20_expand", "block20_depthwise", "block20_project"]
    assert [weight.path for weight in model.trainable_weights] == [
        f"{name}/{part}" for name in learning for part in ("kernel", "bias")
    ]
    everything = trainable_network(EncoderConfig(grid=True), 1000)
    assert len(everything.trainable_weights) == len(everything.weights) == 126


def test_batch_normalisation_never_learns():
    config = EncoderConfig(encoder="mobilenet_v2", encoder_weights="none", grid=True)
    model = trainable_network(config, 1000)
    names = {weight.path.split("/")[0] for weight in model.trainable_weights}
    assert "Conv_1" in names and not any("bn" in name.lower() for name in names)
