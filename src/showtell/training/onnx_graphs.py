"""Keras models as ONNX graphs."""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from onnx import numpy_helper

from showtell.encoder import Encoder, EncoderInfo
from showtell.errors import ConfigurationError
from showtell.inference.onnx_models import NEXT
from showtell.training.decoders import Decoder, ImageState, NextWord
from showtell.training.efficientnet_lite import replace_weights
from showtell.training.encoders import EFFICIENTNET_LITE2, KerasEncoder
from showtell.utils.files import with_filename


def export_decoder(decoder: Decoder) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return a decoder as two ONNX models for `OnnxDecoderStep`, with weights named as in `Decoder.named_weights`."""
    shapes = decoder.state_shapes()
    names = sorted(shapes)
    image_names = [name for name in names if name not in decoder.recurrent_state_names()]
    features = keras.InputSpec("float32", (None, None, decoder.config["channels"]), name="features")
    tokens = keras.InputSpec("int32", (None,), name="tokens")
    state = [keras.InputSpec("float32", (None, *shapes[name]), name=name) for name in names]
    outputs = ["log_probabilities", *(NEXT + name for name in decoder.recurrent_state_names())]
    start = _to_onnx(ImageState(decoder), features, image_names)
    step = _to_onnx(NextWord(decoder), [tokens, *state], outputs)
    for value in step.graph.input:
        if value.name in image_names:
            value.type.tensor_type.shape.dim[0].dim_param = "images"
    for model in (start, step):
        _name_weights(model.graph, decoder)
    return start, step


def export_encoder(encoder: Encoder) -> onnx.ModelProto:
    """Return an encoder as an ONNX model from `images` to `features`."""
    if isinstance(encoder, KerasEncoder):
        return export_network(encoder.info, encoder.model)
    return _extract_shipped_encoder(encoder.info)


def export_network(info: EncoderInfo, network: keras.Model) -> onnx.ModelProto:
    """Return an encoder with the current weights of a Keras model, as an ONNX model from `images` to `features`."""
    if info.name == "efficientnet_lite2":
        return replace_weights(_extract_shipped_encoder(info), network)
    (pixels,) = network.inputs
    return _to_onnx(network, keras.InputSpec("uint8", pixels.shape, name="images"), ["features"])


def require_exportable(info: EncoderInfo) -> None:
    """Raise ConfigurationError if the Keras backend cannot export the encoder."""
    if info.name != "efficientnet_lite2":
        _require_tensorflow()


def _extract_shipped_encoder(info: EncoderInfo) -> onnx.ModelProto:
    output = "pooled" if info.cells == 1 else "grid"
    extracted = onnx.utils.Extractor(onnx.load(EFFICIENTNET_LITE2)).extract_model(["images"], [output])
    _rename(extracted.graph, {output: "features"})
    return extracted


def _require_tensorflow() -> None:
    if keras.backend.backend() != "tensorflow":
        raise ConfigurationError(
            "ONNX export needs the TensorFlow backend of Keras; run the command with KERAS_BACKEND=tensorflow"
        )


def _to_onnx(model: keras.Model, inputs: Any, outputs: Sequence[str]) -> onnx.ModelProto:
    _require_tensorflow()
    # A model has no weights before its first call.
    model(
        keras.tree.map_structure(lambda spec: keras.ops.zeros([size or 2 for size in spec.shape], spec.dtype), inputs)
    )
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter warns about its own dependencies
        path = Path(folder, "model.onnx")
        with with_filename(path):
            model.export(path, format="onnx", verbose=False, input_signature=[inputs])
        exported = onnx.load(path)
    _rename(exported.graph, dict(zip((node.name for node in exported.graph.output), outputs, strict=True)))
    # The converter does not remove the inputs of constants that it has folded.
    used = {name for node in exported.graph.node for name in node.input}
    for tensor in [tensor for tensor in exported.graph.input if tensor.name not in used]:
        exported.graph.input.remove(tensor)
    for tensor in (*exported.graph.input, *exported.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "rows"
    return exported


def _name_weights(graph: onnx.GraphProto, decoder: Decoder) -> None:
    # The converter keeps values and shapes of the weights, but not their names.
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    new_names = {}
    for name, weight in decoder.named_weights().items():
        equal = (old_name for old_name, array in arrays.items() if np.array_equal(array, weight.numpy()))
        if old_name := next(equal, None):
            new_names[old_name] = name
            del arrays[old_name]
    _rename(graph, new_names)


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.output, *graph.initializer):
        value.name = names.get(value.name, value.name)
