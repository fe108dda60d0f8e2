"""Quantisation of exported graphs to 8 bits, with ONNX Runtime's tools."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from showtell.images import Preprocess

# Quantised too, they raise the error of EfficientNet-Lite2's pooled features from 8.6 to 11 % of their norm.
FLOAT_CONVOLUTIONS = 3
CALIBRATION_IMAGES = 100


def quantize_encoder(model: bytes, pixels: np.ndarray) -> bytes:
    """Quantise weights and activations of an encoder; the ranges of activations are those on `pixels`.

    Convolutions are quantised together with the ReLU or clipping that follows; without it, the range of what is clipped
    away would take most of the 8 bits. The first convolutions, which are cheap and see raw pixels, stay as they are.

    Args:
        model: ONNX, input `images` (N, H, W, 3) uint8.
        pixels: (N, H, W, 3) uint8, images for calibration.
    """
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder, name) for name in ("source.onnx", "prepared.onnx", "target.onnx"))
        onnx.save(_widened(onnx.load_from_string(model)), source)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            _Images(pixels),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Clip", "Relu"],
            nodes_to_exclude=_first_convolutions(onnx.load(prepared).graph),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return target.read_bytes()


def calibration_images(preprocess: Preprocess, folder: Path, names: Sequence[str]) -> np.ndarray:
    """Return pixels (N, H, W, 3) uint8 of about CALIBRATION_IMAGES of the named images. Raises ImageError."""
    return np.stack([preprocess.load(folder / name) for name in names[:: max(1, len(names) // CALIBRATION_IMAGES)]])


def quantize_decoder(model: bytes) -> bytes:
    """Quantise the weights of a decoder's graph; activations are quantised as they come."""
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source.onnx"), Path(folder, "target.onnx")
        source.write_bytes(model)
        quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)
        return target.read_bytes()


def is_quantized(model: bytes) -> bool:
    """Say whether an ONNX graph is one that `quantize_encoder` has made."""
    return any(node.op_type == "DequantizeLinear" for node in onnx.load_from_string(model).graph.node)


class _Images(CalibrationDataReader):
    def __init__(self, pixels: np.ndarray):
        self._batches = iter(np.array_split(pixels, max(1, len(pixels) // 8)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def _first_convolutions(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the first convolutions and of what directly follows them."""
    convolutions = [node for node in graph.node if node.op_type == "Conv"][:FLOAT_CONVOLUTIONS]
    outputs = {node.output[0] for node in convolutions}
    return [node.name for node in graph.node if node in convolutions or outputs & set(node.input)]


def _widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with weights that are stored in half precision in single precision."""
    halves = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in halves]
    for node in casts:
        wide = numpy_helper.to_array(halves[node.input[0]]).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(wide, node.output[0]))
        model.graph.node.remove(node)
    for tensor in halves.values():
        model.graph.initializer.remove(tensor)
    return model
