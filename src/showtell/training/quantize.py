"""Quantisation of exported models to int8 with ONNX Runtime's tools."""

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from showtell.images import Preprocess
from showtell.inference.onnx_models import OnnxDecoderStep, open_session
from showtell.inference.search import search
from showtell.inference.search_options import SearchOptions

# Quantising these too would raise the error of EfficientNet-Lite2's pooled features from 8.6 to 11 % of their norm.
FLOAT_CONVOLUTIONS = 3
CALIBRATION_IMAGES = 100


def quantize_encoder(model: bytes, pixels: np.ndarray) -> bytes:
    """Quantise weights and activations of an encoder, with activation ranges from `pixels`.

    Each convolution is quantised together with the ReLU or clipping that follows it. Otherwise, values that are clipped
    would use up most of the range. The first convolutions stay in float: they are cheap and sensitive.

    Args:
        model: ONNX model with the input `images` (N, H, W, 3) uint8.
        pixels: (N, H, W, 3) uint8 calibration images.
    """
    feeds = [{"images": batch} for batch in np.array_split(pixels, max(1, len(pixels) // 8))]
    widened = _widen_weights(onnx.load_from_string(model)).SerializeToString()
    return _quantize(widened, feeds, ("Conv", "Clip", "Relu"), _find_first_convolutions, {})


def quantize_decoder(start: bytes, step: bytes, features: np.ndarray, options: SearchOptions) -> tuple[bytes, bytes]:
    """Quantise weights and activations of all matrix products and embeddings of a decoder.

    The activation ranges are fixed: they are recorded while captioning `features`. With dynamic ranges,
    log-probabilities would depend slightly on the other images of the batch.

    Args:
        start: ONNX model from `export_decoder`.
        step: ONNX model from `export_decoder`.
        features: (N, G, D) float32 features of calibration images.
        options: decoding options.
    """
    sessions = _RecordingSession(start), _RecordingSession(step)
    search(OnnxDecoderStep(*sessions), features, options)
    operators = ("MatMul", "Gemm", "Gather")
    # The outputs of these operators stay in float.
    settings = {"OpTypesToExcludeOutputQuantization": list(operators)}
    start8, step8 = (
        _quantize(model, session.feeds, operators, _find_weightless_nodes, settings)
        for model, session in zip((start, step), sessions, strict=True)
    )
    return start8, step8


def load_calibration_images(preprocess: Preprocess, folder: Path, names: Sequence[str]) -> np.ndarray:
    """Return pixels (N, H, W, 3) uint8 of about CALIBRATION_IMAGES images, evenly spaced. Raises ImageError."""
    return np.stack([preprocess.load(folder / name) for name in names[:: max(1, len(names) // CALIBRATION_IMAGES)]])


def is_quantized(model: bytes) -> bool:
    """Return whether an ONNX model is quantised."""
    return any(node.op_type == "DequantizeLinear" for node in onnx.load_from_string(model).graph.node)


def _quantize(
    model: bytes,
    feeds: Sequence[dict[str, np.ndarray]],
    operators: Sequence[str],
    find_excluded: Callable[[onnx.GraphProto], list[str]],
    settings: dict[str, Any],
) -> bytes:
    with tempfile.TemporaryDirectory() as folder, _silence_root_logger():
        source, prepared, target = (Path(folder, name) for name in ("source.onnx", "prepared.onnx", "target.onnx"))
        source.write_bytes(model)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            _Feeds(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(operators),
            nodes_to_exclude=find_excluded(onnx.load(prepared).graph),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options=settings,
        )
        return target.read_bytes()


class _Feeds(CalibrationDataReader):
    def __init__(self, feeds: Sequence[dict[str, np.ndarray]]):
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


class _RecordingSession:
    """A session that records its inputs."""

    def __init__(self, model: bytes):
        self._session = open_session(model)
        self.get_inputs, self.get_outputs = self._session.get_inputs, self._session.get_outputs
        self.feeds: list[dict[str, np.ndarray]] = []

    def run(self, outputs: Sequence[str], feed: dict[str, np.ndarray], options: Any) -> Any:
        self.feeds.append(dict(feed))
        return self._session.run(outputs, feed, options)


@contextmanager
def _silence_root_logger() -> Iterator[None]:
    """Discard messages of ONNX Runtime's tools, which use the root logger. Other loggers are not affected."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)  # otherwise the first message would configure the root logger
    root.addFilter(_discard)
    try:
        yield
    finally:
        root.removeFilter(_discard)
        root.removeHandler(handler)


def _discard(record: logging.LogRecord) -> bool:
    return False


def _find_weightless_nodes(graph: onnx.GraphProto) -> list[str]:
    """Return the names of nodes without a weight matrix."""
    matrices = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 1}
    return [node.name for node in graph.node if not matrices & set(node.input)]


def _find_first_convolutions(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the first convolutions and of the nodes that directly follow them."""
    convolutions = [node for node in graph.node if node.op_type == "Conv"][:FLOAT_CONVOLUTIONS]
    outputs = {node.output[0] for node in convolutions}
    return [node.name for node in graph.node if node in convolutions or outputs & set(node.input)]


def _widen_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with float16 weights converted to float32."""
    halves = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in halves]
    for node in casts:
        wide = numpy_helper.to_array(halves[node.input[0]]).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(wide, node.output[0]))
        model.graph.node.remove(node)
    for tensor in halves.values():
        model.graph.initializer.remove(tensor)
    return model
