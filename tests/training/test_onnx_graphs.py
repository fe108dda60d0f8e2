import keras
import numpy as np
import pytest

from showtell.encoder import EncoderInfo
from showtell.images import Preprocess
from showtell.inference.model_check import check_model
from showtell.inference.onnx_models import OnnxEncoder, open_bundle_model
from showtell.training.onnx_graphs import export_network


def test_folded_constants_are_no_inputs_of_an_exported_network():
    pixels = keras.Input((8, 8, 3), dtype="uint8", name="images")
    scaled = keras.applications.resnet.preprocess_input(keras.ops.cast(pixels, "float32"))
    model = keras.Model(pixels, keras.layers.Reshape((64, 3))(scaled))
    info = EncoderInfo("scaled", "0", Preprocess(8), cells=64, channels=3)
    exported = export_network(info, model).SerializeToString()
    check_model(exported)
    (features,) = OnnxEncoder(open_bundle_model(exported, "encoder.onnx"), info).encode(np.ones((1, 8, 8, 3), np.uint8))
    assert features[0] == pytest.approx([1 - 103.939, 1 - 116.779, 1 - 123.68], abs=1e-4)
