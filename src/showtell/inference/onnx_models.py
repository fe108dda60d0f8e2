"""Models on ONNX Runtime: an encoder, and a decoder as a `DecoderStep`.

The models may come from strangers. Their inputs and outputs are therefore compared with what captioning expects when
they are opened, and the shapes of their results after every run: a row too many or too few would put captions on the
wrong images.
"""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from showtell.encoder import EncoderInfo
from showtell.errors import BundleError
from showtell.inference.decoder_step import DecoderState, prime_state
from showtell.inference.run_limits import current_run_options, limit_memory
from showtell.utils.text import printable
from showtell.utils.threads import omp_num_threads

# Outputs of decoder_step.onnx that replace an input of the same name have this prefix.
NEXT = "next_"
ATTENTION = f"{NEXT}attention"
LOG_PROBS = "log_probabilities"
# Numbers in one array of the recurrent state, per caption.
MAX_STATE_SIZE = 10_000_000
MAX_FEATURE = 1e6
MAX_MESSAGE = 500

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
    name = "the model" if isinstance(model, bytes) else str(model)
    return _open(model if isinstance(model, bytes) else str(model), name, _session_options(threads))


def open_bundle_model(content: bytes, name: str) -> onnxruntime.InferenceSession:
    """Load an ONNX model of a bundle with a limit of its memory, for calls from several threads.

    Args:
        content: the content of the file.
        name: the name of the file, for messages.

    Raises:
        BundleError: if the model cannot be loaded.
    """
    options = _session_options(threads=1)
    limit_memory(options, len(content))
    return _open(content, name, options)


def _session_options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors become exceptions
    options.intra_op_num_threads = threads or omp_num_threads()
    # Spinning threads would block the cores that numpy uses between calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _open(model: str | bytes, name: str, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    try:
        session = onnxruntime.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # the fallback is the same provider, and prints a banner to standard output
        )
        # Names that are not valid UTF-8 cause an error only when they are read.
        _ = [(node.name, node.shape) for node in (*session.get_inputs(), *session.get_outputs())]
    except Exception as error:  # ONNX Runtime's own exception types are not public
        raise BundleError(f"{name}: ONNX Runtime cannot load the model: {_brief(error)}") from None
    return session


class OnnxEncoder:
    """An encoder in an ONNX model: input `images` (N, H, W, 3) uint8, one output of features (N, G, D) float32.

    Raises:
        BundleError: if the model has other inputs or outputs.
    """

    def __init__(self, session: onnxruntime.InferenceSession, info: EncoderInfo, output: str = "features"):
        self.info = info
        self._session = session
        self._output = output
        size = info.preprocess.size
        inputs, outputs = _signature(session.get_inputs()), _signature(session.get_outputs())
        _require(inputs.keys() == {"images"}, f"an encoder needs the input images, not {[*inputs]}")
        _require_tensor("images", inputs, "uint8", (None, size, size, 3))
        _require_tensor(output, outputs, "float", (None, info.cells, info.channels))

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Return features (N, G, D) float32 of images (N, H, W, 3) uint8.

        Raises:
            BundleError: if the model fails, or returns features of another shape or NaN.
        """
        (features,) = _run(self._session, [self._output], {"images": images})
        _require_shape(self._output, features, (len(images), self.info.cells, self.info.channels))
        if not np.abs(features).max(initial=0) <= MAX_FEATURE:
            raise BundleError("the encoder of the bundle returned NaN or huge features; do not use this bundle")
        return features


class OnnxDecoderStep:
    """A decoder in two ONNX models, as a `DecoderStep`.

    `start` maps `features` (N, G, D) to the image arrays. `step` maps `tokens` (N,), the image arrays and the caption
    arrays to `log_probabilities` (N, V) and to the new caption arrays, whose names have the prefix `next_`. Caption
    arrays start as zeros. `next_attention`, if present, holds the attention weights (N, G).

    Args:
        start: the model for features.
        step: the model for tokens.
        cells: G, if known.

    Attributes:
        vocabulary_size: V, the number of tokens.
        has_attention: whether the step returns attention weights.

    Raises:
        BundleError: if the inputs and outputs of the models do not match.
    """

    def __init__(
        self, start: onnxruntime.InferenceSession, step: onnxruntime.InferenceSession, cells: int | None = None
    ):
        self._start = start
        self._step = step
        self._cells = cells
        image, inputs = _signature(start.get_outputs()), _signature(step.get_inputs())
        outputs = _signature(step.get_outputs())
        _require_tensor("features", _signature(start.get_inputs()), "float", (None, cells, None))
        _require_tensor("tokens", inputs, "int32", (None,))
        _require_tensor(LOG_PROBS, outputs, "float", (None, None))
        self.vocabulary_size = outputs[LOG_PROBS][1][1]
        _require(isinstance(self.vocabulary_size, int), f"the number of {LOG_PROBS} is not fixed")
        self.has_attention = ATTENTION in outputs
        if self.has_attention:
            _require_tensor(ATTENTION, outputs, "float", (None, cells))
        self._image_ranks = {name: len(shape) for name, (_, shape) in image.items()}
        self._inputs = [name for name in inputs if name != "tokens"]
        self._outputs = list(outputs)
        self._caption_shapes = _match_states(image, inputs, outputs)

    def start(self, features: np.ndarray) -> DecoderState:
        """Return the state before the first token from features (N, G, D) float32."""
        arrays = _run(self._start, [*self._image_ranks], {"features": features})
        image = dict(zip(self._image_ranks, arrays, strict=True))
        for name, array in image.items():
            _require_shape(name, array, (len(features), *array.shape[1:]))
            _require(array.ndim == self._image_ranks[name], f"{name} has {array.ndim} axes")
        return prime_state(self, image, self._caption_shapes)

    def __call__(self, tokens: np.ndarray, state: DecoderState) -> tuple[np.ndarray, DecoderState]:
        """Read tokens (N,); return log-probabilities (N, V) float32 and the next state.

        Raises:
            BundleError: if the model fails, or returns arrays of other shapes.
        """
        arrays = {**state.image, **state.caption}
        feed = {name: arrays[name] for name in self._inputs}
        feed["tokens"] = np.asarray(tokens, dtype=np.int32)
        outputs = dict(zip(self._outputs, _run(self._step, self._outputs, feed), strict=True))
        rows = len(tokens)
        log_probs = outputs.pop(LOG_PROBS)
        _require_shape(LOG_PROBS, log_probs, (rows, self.vocabulary_size))
        attention = outputs.pop(ATTENTION, None)
        if attention is not None:
            _require_shape(ATTENTION, attention, (rows, self._cells or attention.shape[-1]))
        caption = {name.removeprefix(NEXT): array for name, array in outputs.items()}
        for name, array in caption.items():
            _require_shape(name, array, (rows, *self._caption_shapes[name]))
        return log_probs, state.advanced(caption, attention)


# Name of an input or output -> its element type, such as "float", and its axes: a number, or a name if it varies.
_Signature = Mapping[str, tuple[str, Sequence[Any]]]


def _signature(nodes: Sequence[Any]) -> dict[str, tuple[str, Sequence[Any]]]:
    return {node.name: (node.type.removeprefix("tensor(").removesuffix(")"), node.shape or ()) for node in nodes}


def _match_states(image: _Signature, inputs: _Signature, outputs: _Signature) -> dict[str, tuple[int, ...]]:
    """Return the shape of each caption array without the row axis.

    Raises:
        BundleError: if an input of the step is neither an image array nor the next state of an output, or an output is
            not an input.
    """
    for name in image.keys() & inputs.keys():
        _require_tensor(name, inputs, image[name][0], image[name][1])
    states = {name: shape for name, (_, shape) in inputs.items() if name not in image and name != "tokens"}
    for name, shape in states.items():
        fixed = all(isinstance(axis, int) for axis in shape[1:])
        _require(fixed and prod(shape[1:]) <= MAX_STATE_SIZE, f"the state {name} has the shape {shape}")
        _require_tensor(name, inputs, "float", (None, *shape[1:]))
        _require_tensor(NEXT + name, outputs, "float", (None, *shape[1:]))
    expected = {LOG_PROBS, ATTENTION, *(NEXT + name for name in states)}
    _require(outputs.keys() <= expected, f"the outputs {[*outputs.keys() - expected]} have no matching inputs")
    return {name: tuple(shape[1:]) for name, shape in states.items()}


def _brief(text: object) -> str:
    """Return a message on one line. Names in a model may have any length and any character."""
    return printable(" ".join(str(text).split()))[:MAX_MESSAGE]


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise BundleError(f"the models of the bundle do not match: {_brief(problem)}; export the bundle again")


def _require_tensor(name: str, signature: _Signature, element: str, shape: Sequence[Any]) -> None:
    """Raise BundleError unless a tensor has the element type and the axes. Axes are compared if both are numbers."""
    _require(name in signature, f"{name} is missing")
    actual_element, actual = signature[name]
    same = len(actual) == len(shape) and all(
        axis == expected or not isinstance(axis, int) or not isinstance(expected, int)
        for axis, expected in zip(actual, shape, strict=True)
    )
    _require(same and actual_element == element, f"{name} is {actual_element} {[*actual]}, not {element} {[*shape]}")


def _require_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise BundleError(
            f"a model of the bundle returned {name} of shape {array.shape}, not {shape}; do not use this bundle"
        )


def _run(
    session: onnxruntime.InferenceSession, outputs: Sequence[str], feed: Mapping[str, np.ndarray]
) -> Sequence[np.ndarray]:
    options = current_run_options()
    try:
        results: Sequence[np.ndarray] = session.run(outputs, feed, options)
    except Exception as error:  # ONNX Runtime's own exception types are not public
        reason = (
            "it exceeded the time limit; do not use this bundle"
            if options is not None and options.terminate
            else _brief(error)
        )
        raise BundleError(f"running a model of the bundle failed: {reason}") from None
    return results
