import numpy as np
import pytest
from helpers import EXAMPLES, ROOT

from showtell.errors import BundleError, ConfigurationError
from showtell.images import decode
from showtell.inference.onnx_models import open_session
from showtell.recipe import EncoderConfig
from showtell.training.encoders import load_encoder


def test_the_converted_weights_give_the_features_of_the_original_on_photographs():
    reference = np.load(ROOT / "tests/training/efficientnet_lite2_reference.npz")
    encoder = load_encoder(EncoderConfig())
    pixels = np.stack([encoder.info.preprocess(decode(EXAMPLES / str(name))) for name in reference["files"]])
    pooled = encoder.encode(pixels)
    assert pooled.shape == (6, 1, 1280) and pooled.dtype == np.float32
    # Weights are stored in half precision, and libjpeg-turbo before 3.2 decodes one of the photos differently.
    assert np.abs(pooled[:, 0] - reference["pooled"]).max() < 0.07
    for ours, theirs in zip(pooled[:, 0], reference["pooled"], strict=True):
        assert ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs) > 0.9998


def test_the_grid_keeps_49_cells_and_has_a_fingerprint_of_its_own():
    grid, pooled = load_encoder(EncoderConfig(grid=True)), load_encoder(EncoderConfig())
    assert grid.encode(np.zeros((2, 224, 224, 3), np.uint8)).shape == (2, 49, 352)
    assert grid.info.fingerprint != pooled.info.fingerprint


def test_unknown_encoders_and_weights_are_refused():
    with pytest.raises(ConfigurationError, match="available: efficientnet_lite2, inception_v3"):
        load_encoder(EncoderConfig(encoder="vgg16"))
    with pytest.raises(ConfigurationError, match="ships with ImageNet weights"):
        load_encoder(EncoderConfig(encoder_weights="none"))


def test_invalid_models_give_a_one_line_error(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(BundleError, match=r"bad\.onnx") as error:
        open_session(tmp_path / "bad.onnx")
    assert "\n" not in str(error.value)
