"""EfficientNet-Lite2 in Keras for fine-tuning, read from the shipped ONNX file and written back to it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from keras import layers
from onnx import numpy_helper

# Suffix of the names of weights, which the file stores in half precision.
HALF = ".half"


def build_network(path: Path, output: str) -> keras.Model:
    """Build a Keras model with the weights of an ONNX file.

    Batch normalisation is folded into the convolutions, so there are no statistics for training to change.

    Args:
        path: efficientnet_lite2.onnx, or an encoder that showtell made from it.
        output: the output to return: "grid" or "pooled" of efficientnet_lite2.onnx, "features" of an encoder.

    Returns:
        A model from images (N, 224, 224, 3) uint8 to features (N, 49, 352) or (N, 1, 1280), float32.
    """
    graph = onnx.load(path).graph
    weights = {tensor.name.removesuffix(HALF): numpy_helper.to_array(tensor) for tensor in graph.initializer}
    _, *shape = (size.dim_value for size in graph.input[0].type.tensor_type.shape.dim)
    images = keras.Input(shape, dtype="uint8")
    # Keras has channels last, so the transpositions are left out.
    tensors: dict[str, Any] = {"images": images}
    for node in graph.node:
        if node.input[0].endswith(HALF):
            continue
        operands = [tensors[operand] for operand in node.input if operand in tensors]
        layer = _LAYERS[node.op_type](node, weights)
        tensors[node.output[0]] = layer(operands if len(operands) > 1 else operands[0]) if layer else operands[0]
    model = keras.Model(images, tensors[output], name="efficientnet_lite2")
    for convolution in _convolutions(model):
        kernel, bias = (weights[name].astype(np.float32) for name in _weight_names(convolution))
        convolution.set_weights([np.transpose(kernel, _axes(convolution)), bias])
    return model


def replace_weights(model: onnx.ModelProto, network: keras.Model) -> onnx.ModelProto:
    """Return the ONNX model with the current weights of the Keras model."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    initializers = {tensor.name: tensor for tensor in changed.graph.initializer}
    for convolution in _convolutions(network):
        kernel, bias = convolution.get_weights()
        kernel = np.transpose(kernel, np.argsort(_axes(convolution)))
        for name, value in zip(_weight_names(convolution), (kernel, bias), strict=True):
            tensor = initializers[name + HALF]
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float16), tensor.name))
    return changed


def _convolution(node: onnx.NodeProto, weights: dict[str, np.ndarray]) -> layers.Layer:
    kernel = weights[node.input[1]]
    (stride, _), group = (_attribute(node, name) for name in ("strides", "group"))
    shape = {"kernel_size": kernel.shape[2], "strides": stride, "padding": "same", "name": _layer_name(node.output[0])}
    # Random initialisation would take longer than everything else here; the weights are set later.
    if group > 1:
        return layers.DepthwiseConv2D(**shape, depthwise_initializer="zeros")
    return layers.Conv2D(kernel.shape[0], **shape, kernel_initializer="zeros")


_Builder = Callable[[onnx.NodeProto, dict[str, np.ndarray]], layers.Layer | None]
_LAYERS: dict[str, _Builder] = {
    "Cast": lambda node, weights: None,
    "Transpose": lambda node, weights: None,
    "Sub": lambda node, weights: layers.Rescaling(1.0, -float(weights[node.input[1]])),
    "Div": lambda node, weights: layers.Rescaling(1 / float(weights[node.input[1]])),
    "Conv": _convolution,
    "Clip": lambda node, weights: layers.ReLU(float(weights[node.input[2]])),
    "Add": lambda node, weights: layers.Add(),
    "GlobalAveragePool": lambda node, weights: layers.GlobalAveragePooling2D(),
    "Reshape": lambda node, weights: layers.Reshape([int(size) for size in weights[node.input[1]][1:]]),
}


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    return next(onnx.helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name)


def _convolutions(model: keras.Model) -> list[layers.Layer]:
    return [layer for layer in model.layers if layer.weights]


def _layer_name(name: str) -> str:
    return name.replace(".", "_")


def _weight_names(convolution: layers.Layer) -> tuple[str, str]:
    name = convolution.name.replace("_", ".")
    return f"{name}.kernel", f"{name}.bias"


def _axes(convolution: layers.Layer) -> tuple[int, ...]:
    """Return the order in Keras of the axes of an ONNX kernel (out, in, height, width)."""
    return (2, 3, 0, 1) if isinstance(convolution, layers.DepthwiseConv2D) else (2, 3, 1, 0)
