"""Models on ONNX Runtime: an encoder, and a decoder as a `DecoderStep`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from showtell.encoder import EncoderInfo
from showtell.errors import BundleError
from showtell.inference.decoder_step import DecoderState, prime_state
from showtell.utils.text import one_line
from showtell.utils.threads import omp_num_threads

# Outputs of decoder_step.onnx that replace an input of the same name have this prefix.
NEXT = "next_"

# The package sets ORT_DISABLE_TELEMETRY; this also covers programs that imported ONNX Runtime before showtell.
onnxruntime.disable_telemetry_events()


def open_session(model: Path | bytes, threads: int = 0) -> onnxruntime.InferenceSession:
    """Load an ONNX model for the CPU.

    Args:
        model: a file, or its content.
        threads: threads per call; 0 for OMP_NUM_THREADS or one per core. Use 1 if several threads call the session at
            the same time, because it scales better to process one image per thread than to share each matrix product.

    Raises:
        BundleError: if the model cannot be loaded.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or omp_num_threads()
    # Spinning threads would block the cores that numpy uses between calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # the fallback is the same provider, and prints a banner to standard output
        )
        # Names that are not valid UTF-8 cause an error only when they are read.
        _ = [(node.name, node.shape) for node in (*session.get_inputs(), *session.get_outputs())]
    except Exception as error:  # ONNX Runtime's own exception types are not public
        name = "the model" if isinstance(model, bytes) else str(model)
        raise BundleError(f"{name}: ONNX Runtime cannot load the model: {one_line(error)}") from None
    return session


class OnnxEncoder:
    """An encoder in an ONNX model: input `images` (N, H, W, 3) uint8, one output of features (N, G, D) float32."""

    def __init__(self, session: onnxruntime.InferenceSession, info: EncoderInfo, output: str = "features"):
        self.info = info
        self._session = session
        self._output = output

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Return features (N, G, D) float32 of images (N, H, W, 3) uint8."""
        (features,) = _run(self._session, [self._output], {"images": images})
        return features


class OnnxDecoderStep:
    """A decoder in two ONNX models, as a `DecoderStep`.

    `start` maps `features` (N, G, D) to the image arrays. `step` maps `tokens` (N,), the image arrays and the caption
    arrays to `log_probabilities` (N, V) and to the new caption arrays, whose names have the prefix `next_`. Caption
    arrays start as zeros. `next_attention`, if present, holds the attention weights (N, G).

    Attributes:
        vocabulary_size: V, the number of tokens.
    """

    def __init__(self, start: onnxruntime.InferenceSession, step: onnxruntime.InferenceSession):
        self._start = start
        self._step = step
        self._image_names = [output.name for output in start.get_outputs()]
        self._outputs = [node.name for node in step.get_outputs()]
        inputs = {node.name: tuple(node.shape[1:]) for node in step.get_inputs() if node.name != "tokens"}
        self._inputs = list(inputs)
        self._caption_shapes = {name: shape for name, shape in inputs.items() if name not in self._image_names}
        produced = {name.removeprefix(NEXT) for name in self._outputs}
        shapes = {node.name: node.shape for node in step.get_outputs()}
        if not set(self._caption_shapes) <= produced or len(shapes.get("log_probabilities", ())) != 2:
            raise BundleError("decoder_start.onnx and decoder_step.onnx do not match; export the bundle again")
        self.vocabulary_size = shapes["log_probabilities"][1]

    def start(self, features: np.ndarray) -> DecoderState:
        """Return the state before the first token from features (N, G, D) float32."""
        arrays = _run(self._start, self._image_names, {"features": features})
        return prime_state(self, dict(zip(self._image_names, arrays, strict=True)), self._caption_shapes)

    def __call__(self, tokens: np.ndarray, state: DecoderState) -> tuple[np.ndarray, DecoderState]:
        """Read tokens (N,); return log-probabilities (N, V) float32 and the next state."""
        arrays = {**state.image, **state.caption}
        feed = {name: arrays[name] for name in self._inputs}
        feed["tokens"] = np.asarray(tokens, dtype=np.int32)
        outputs = dict(zip(self._outputs, _run(self._step, self._outputs, feed), strict=True))
        log_probs = outputs.pop("log_probabilities")
        attention = outputs.pop(f"{NEXT}attention", None)
        caption = {name.removeprefix(NEXT): array for name, array in outputs.items()}
        return log_probs, state.advanced(caption, attention)


def _run(
    session: onnxruntime.InferenceSession, outputs: Sequence[str], feed: Mapping[str, np.ndarray]
) -> Sequence[np.ndarray]:
    try:
        results: Sequence[np.ndarray] = session.run(outputs, feed)
    except Exception as error:  # ONNX Runtime's own exception types are not public
        raise BundleError(f"running a model of the bundle failed: {one_line(error)}") from None
    return results
