"""Shared by several test modules: paths, a tiny bundle with attention, and finding rectangles in images."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"

# The model captions every image "a dog". "a" attends to bright cells, and "dog" to dark cells.
LOOKING_GRAPHS = {
    "encoder.onnx": """
        encoder (uint8[N, 8, 8, 3] images) => (float[N, 4, 1] features) <int64[3] shape = {0, 4, 1}> {
            numbers = Cast <to = 1> (images)
            planes = Transpose <perm = [0, 3, 1, 2]> (numbers)
            cells = AveragePool <kernel_shape = [4, 4], strides = [4, 4]> (planes)
            grey = ReduceMean <axes = [1], keepdims = 0> (cells)
            features = Reshape (grey, shape)
        }""",
    "decoder_start.onnx": """
        start (float[N, 4, 1] features) => (float[N, 4] cells) <int64[1] last = {2}> {
            cells = Squeeze (features, last)
        }""",
    "decoder_step.onnx": """
        step (int32[N] tokens, float[M, 4] cells) => (float[N, 6] log_probabilities, float[N, 4] next_attention)
        <float[6, 6] next = {
            -30, -30, -30, -30, -30, -30,
            -30, -30, -30, -30, -0.1, -2.4,
            -30, -30, -30, -30, -30, -30,
            -30, -30, -30, -30, -30, -30,
            -30, -30, -2.4, -30, -30, -0.1,
            -30, -30, 0, -30, -30, -30},
         float[6, 1] sign = {0, 0.02, 0, 0, -0.02, 0},
         int64[2] captions = {-1, 1}, int64[1] second = {1}, int64[2] rows = {-1, 4}> {
            log_probabilities = Gather (next, tokens)
            signs = Gather (sign, tokens)
            images = Shape <end = 1> (cells)
            grouped = Concat <axis = 0> (images, captions)
            signs_by_image = Reshape (signs, grouped)
            cells_by_image = Unsqueeze (cells, second)
            by_image = Mul (signs_by_image, cells_by_image)
            scores = Reshape (by_image, rows)
            next_attention = Softmax <axis = 1> (scores)
        }""",
}


def save_looking_bundle(path, graphs):
    import onnx.parser

    from showtell.encoder import EncoderInfo
    from showtell.images import Preprocess
    from showtell.inference.bundle import Bundle
    from showtell.inference.search_options import SearchOptions
    from showtell.vocabulary import Vocabulary

    files = {"vocabulary.json": Vocabulary.from_words(["a", "dog"]).to_json().encode(), "MODEL_CARD.md": b""}
    for name, graph in graphs.items():
        model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {graph}')
        onnx.checker.check_model(model)
        files[name] = model.SerializeToString()
    info = EncoderInfo("brightness", "0", Preprocess(8), cells=4, channels=1)
    has_attention = ", float[N, 4] next_attention" in graphs["decoder_step.onnx"]
    Bundle(info, {"kind": "looking"}, "float32", SearchOptions(), files, has_attention=has_attention).save(path)
    return path


def leave_temporary_file(path: Path) -> None:
    """Leave the temporary file of a process that was killed while it wrote a file."""
    program = """
import os, signal, sys
from showtell.utils.files import atomic_write

with atomic_write(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half a")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert list(path.parent.glob(".*.tmp*"))


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return the half-open intervals in which `flags` is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def boxes(sheet: Image.Image, colour: tuple[int, int, int]) -> list[tuple[int, int, int, int]]:
    """The boxes (left, top, right, bottom) of the rectangles of one colour, in reading order."""
    match = (np.asarray(sheet) == colour).all(axis=2)
    return [
        (left, top, right, bottom)
        for top, bottom in runs(match.any(axis=1))
        for left, right in runs(match[top:bottom].any(axis=0))
    ]


def split_words(*captions: str) -> list[list[str]]:
    """Split captions at spaces, as the metrics take them."""
    return [caption.split() for caption in captions]
