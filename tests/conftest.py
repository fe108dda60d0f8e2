import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def pytest_collection_modifyitems(items):
    """Begin with the tests that train: where several processes share the files, none is left with a long one alone."""
    items.sort(key=lambda item: not item.path.stem.startswith(("test_training", "test_start_from", "test_languages")))


@pytest.fixture
def showtell():
    """Run the real command line in a process of its own; return what it left."""

    def run(*arguments, status=0, environment=None, timeout=300):
        command = [sys.executable, "-m", "showtell", *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env={**os.environ, **(environment or {})}
        )
        assert done.returncode == status, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture
def noise_images(tmp_path):
    """A folder of twelve small pictures that all differ."""
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        pixels = random.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


# It says "a dog" of every image, and looks where the image is bright for "a", where it is dark for "dog".
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
            sought = Reshape (by_image, rows)
            next_attention = Softmax <axis = 1> (sought)
        }""",
}


def save_looking_bundle(path, graphs):
    import onnx.parser

    from showtell.bundle import Bundle
    from showtell.encoder import EncoderInfo
    from showtell.images import Preprocess
    from showtell.search import SearchOptions
    from showtell.vocabulary import Vocabulary

    files = {"vocabulary.json": Vocabulary.from_words(["a", "dog"]).to_json().encode(), "MODEL_CARD.md": b""}
    for name, graph in graphs.items():
        model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {graph}')
        onnx.checker.check_model(model)
        files[name] = model.SerializeToString()
    info = EncoderInfo("brightness", "0", Preprocess(8), cells=4, channels=1)
    Bundle(info, {"kind": "looking"}, "float32", SearchOptions(), files).save(path)
    return path


@pytest.fixture(scope="session")
def looking_bundle(tmp_path_factory):
    """A bundle of a tiny model with attention over 2 x 2 cells, on disk."""
    return save_looking_bundle(tmp_path_factory.mktemp("bundles") / "looking", LOOKING_GRAPHS)


@pytest.fixture(scope="session")
def blind_bundle(tmp_path_factory):
    """The same, but it does not tell its attention."""
    step = LOOKING_GRAPHS["decoder_step.onnx"].replace(", float[N, 4] next_attention", "")
    path = tmp_path_factory.mktemp("bundles") / "blind"
    return save_looking_bundle(path, {**LOOKING_GRAPHS, "decoder_step.onnx": step})


@pytest.fixture
def night_image(tmp_path):
    """An image that is dark but for its upper right quarter."""
    pixels = np.full((60, 90, 3), 20, np.uint8)
    pixels[:30, 45:] = 240
    Image.fromarray(pixels).save(tmp_path / "night.png")
    return tmp_path / "night.png"


@pytest.fixture(scope="module")
def serve():
    """Start the real `showtell serve` with options; return its address and process. All end with the module."""
    started = []

    def start(*options):
        command = [sys.executable, "-m", "showtell", "serve", "--port", "0", *map(str, options)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        started.append(process)
        for line in process.stderr:
            if found := re.search(r"http://\S+:\d+", line):
                return found.group(), process
        raise AssertionError(f"{command} has ended with {process.wait()}")

    yield start
    for process in started:
        process.kill()
        process.communicate()
