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
from showtell.training.efficientnet_lite import build_network
from showtell.training.encoders import EFFICIENTNET_LITE2, build_trainable_network, load_encoder
from showtell.training.onnx_graphs import export_encoder, export_network

SHAPES = {"grid": (49, 352), "pooled": (1, 1280)}


@pytest.fixture(scope="module")
def images():
    return np.stack([Preprocess().load(path) for path in find_images([EXAMPLES])][:3])


def load_shipped(output):
    return load_encoder(EncoderConfig(grid=output == "grid"))


def make_info(output):
    return EncoderInfo("efficientnet_lite2", "", Preprocess(), *SHAPES[output])


@pytest.mark.parametrize("output", SHAPES)
def test_keras_reproduces_the_features_of_the_onnx_file(images, output):
    features = build_network(EFFICIENTNET_LITE2, output).predict_on_batch(images)
    expected = load_shipped(output).encode(images)
    assert features.shape == (3, *SHAPES[output]) and np.abs(expected).max() > 1
    assert features == pytest.approx(expected, abs=1e-3)


def test_jax_reproduces_the_features_of_the_onnx_file(images, tmp_path):
    program = f"""
import sys
from pathlib import Path
import numpy as np
from showtell.training.efficientnet_lite import build_network
model = build_network(Path({str(EFFICIENTNET_LITE2)!r}), "grid")
np.save(sys.argv[2], model.predict_on_batch(np.load(sys.argv[1])))
"""
    np.save(tmp_path / "images.npy", images[:1])
    paths = [str(tmp_path / "images.npy"), str(tmp_path / "features.npy")]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", program, *paths], check=True, env=environment)
    assert np.load(paths[1]) == pytest.approx(load_shipped("grid").encode(images[:1]), abs=1e-3)


@pytest.mark.parametrize("output", SHAPES)
def test_changed_weights_are_written_back(images, output):
    model = build_network(EFFICIENTNET_LITE2, output)
    before = model.predict_on_batch(images)
    random = np.random.default_rng(0)
    for variable in model.weights:
        changed = np.asarray(variable) * random.normal(1, 0.02, variable.shape)
        variable.assign(changed.astype(np.float16).astype(np.float32))  # rounded to the precision of the file
    after = model.predict_on_batch(images)
    written = export_network(make_info(output), model)
    onnx.checker.check_model(written, full_check=True)
    features = OnnxEncoder(open_session(written.SerializeToString()), make_info(output)).encode(images)
    assert np.linalg.norm(after - before) > 0.2 * np.linalg.norm(after), "the weights hardly matter"
    assert features == pytest.approx(after, abs=1e-3)


def test_unchanged_weights_are_written_back_identically():
    assert export_network(make_info("grid"), build_network(EFFICIENTNET_LITE2, "grid")) == export_encoder(
        load_shipped("grid")
    )


def test_only_the_last_layers_are_trainable():
    model = build_trainable_network(EncoderConfig(grid=True), 4)
    trainable = ["block19_project", "block20_expand", "block20_depthwise", "block20_project"]
    assert [weight.path for weight in model.trainable_weights] == [
        f"{name}/{part}" for name in trainable for part in ("kernel", "bias")
    ]
    everything = build_trainable_network(EncoderConfig(grid=True), 1000)
    assert len(everything.trainable_weights) == len(everything.weights) == 126


def test_batch_normalisation_is_never_trainable():
    config = EncoderConfig(encoder="mobilenet_v2", encoder_weights="none", grid=True)
    model = build_trainable_network(config, 1000)
    names = {weight.path.split("/")[0] for weight in model.trainable_weights}
    assert "Conv_1" in names and not any("bn" in name.lower() for name in names)
