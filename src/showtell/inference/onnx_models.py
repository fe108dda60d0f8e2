"""Models on ONNX Runtime: an encoder, and a decoder as a Step."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from showtell.encoder import EncoderInfo
from showtell.errors import BundleError
from showtell.inference.search import DecoderStep, State
from showtell.utils.threads import omp_num_threads
from showtell.vocabulary import PAD

NEXT = "next_"


def open_session(model: Path | bytes, threads: int = 0) -> onnxruntime.InferenceSession:
    """Load an ONNX file, or the bytes of one, for the CPU. Raises BundleError if it cannot be loaded.

    Args:
        model: the file, or its bytes.
        threads: threads that share the work of a call; 0 for as many as OMP_NUM_THREADS says, or one for each core.
            Callers that call from many threads at once want 1: threads that do whole images each wait for nothing,
            those that share every product of matrices wait for each other some hundred times an image.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or omp_num_threads()
    # Between calls numpy works: spinning threads would take its cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # to the same provider, with a banner on standard output
        )
        # Bytes in a name that are no text come out only here.
        _ = [(node.name, node.shape) for node in (*session.get_inputs(), *session.get_outputs())]
    except Exception as error:  # ONNX Runtime's own exception types are not public
        name = "the model" if isinstance(model, bytes) else str(model)
        raise BundleError(f"{name}: ONNX Runtime cannot load it ({' '.join(str(error).split())})") from None
    return session


def _run(
    session: onnxruntime.InferenceSession, outputs: Sequence[str], feed: Mapping[str, np.ndarray]
) -> Sequence[np.ndarray]:
    try:
        found: Sequence[np.ndarray] = session.run(outputs, feed)
    except Exception as error:  # ONNX Runtime's own exception types are not public
        raise BundleError(f"a model of the bundle cannot be run ({' '.join(str(error).split())})") from None
    return found


class OnnxEncoder:
    """An encoder in an ONNX file: input `images` (N, H, W, 3) uint8, one output of features (N, G, D)."""

    def __init__(self, session: onnxruntime.InferenceSession, info: EncoderInfo, output: str = "features"):
        self.info = info
        self._session = session
        self._output = output

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Take images (N, H, W, 3) uint8; return features (N, G, D) float32."""
        (features,) = _run(self._session, [self._output], {"images": images})
        return features


class OnnxStep:
    """A decoder in two ONNX files, as the Step of search.py.

    `start` takes `features` (N, G, D) and gives what belongs to the images, rows on axis 0. `step` takes `tokens` (N,)
    and the state by its names, and gives `log_probabilities` (N, V) and, for every part of the state that changes, an
    output of its name with `next_` before it. Those parts begin as zeros, and are ready for the first word when the
    model has been fed with `<pad>`, which stands for the image. What the files do not give stays as it was.

    Attributes:
        vocabulary_size: V, the number of tokens that the model chooses among.
    """

    def __init__(self, start: onnxruntime.InferenceSession, step: onnxruntime.InferenceSession):
        self._start = start
        self._step = step
        self._image_names = [output.name for output in start.get_outputs()]
        self._shapes = {node.name: tuple(node.shape[1:]) for node in step.get_inputs() if node.name != "tokens"}
        self._outputs = [node.name for node in step.get_outputs()]
        changing = {name.removeprefix(NEXT) for name in self._outputs}
        shapes = {node.name: node.shape for node in step.get_outputs()}
        if not set(self._shapes) <= {*self._image_names, *changing} or len(shapes.get("log_probabilities", ())) != 2:
            raise BundleError("decoder_start.onnx and decoder_step.onnx do not belong together; export the bundle anew")
        self.vocabulary_size = shapes["log_probabilities"][1]

    def start(self, features: np.ndarray) -> State:
        """Take features (N, G, D) float32; return the state before the first word."""
        parts = _run(self._start, self._image_names, {"features": features})
        return prime_state(self, len(features), dict(zip(self._image_names, parts, strict=True)), self._shapes)

    def __call__(self, tokens: np.ndarray, state: Mapping[str, np.ndarray]) -> tuple[np.ndarray, State]:
        """Take token ids (N,) and the state; return log-probabilities (N, V) float32 and the next state."""
        feed = {name: state[name] for name in self._shapes}
        feed["tokens"] = np.asarray(tokens, dtype=np.int32)
        outputs = dict(zip(self._outputs, _run(self._step, self._outputs, feed), strict=True))
        log_probabilities = outputs.pop("log_probabilities")
        return log_probabilities, {**state, **{name.removeprefix(NEXT): value for name, value in outputs.items()}}


def prime_state(step: DecoderStep, rows: int, image: State, shapes: Mapping[str, Any]) -> State:
    """Have a model read its images, each from a state of zeros; return the state before the first word.

    Args:
        step: the model; `<pad>` stands for the image.
        rows: the number of images.
        image: the parts of the state that belong to them.
        shapes: the shape, without the row axis, of all parts.
    """
    zeros = {name: np.zeros((rows, *shape), np.float32) for name, shape in shapes.items() if name not in image}
    return step(np.full(rows, PAD), {**zeros, **image})[1]
