import os
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import LOOKING_GRAPHS, save_looking_bundle
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def pytest_collection_modifyitems(items):
    """Run the slow training tests first, so that parallel test processes end at about the same time."""
    items.sort(key=lambda item: not item.path.stem.startswith(("test_training", "test_warm_start", "test_languages")))


@pytest.fixture
def showtell():
    """Run the command line in a process of its own, check its exit status, and return the finished process."""

    def run(*arguments, status=0, environment=None, timeout=300):
        command = [sys.executable, "-m", "showtell", *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env={**os.environ, **(environment or {})}
        )
        assert done.returncode == status, f"{command}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture
def noise_images(tmp_path):
    """A folder of twelve small images of random noise."""
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        pixels = random.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="session")
def looking_bundle(tmp_path_factory):
    """A bundle of a tiny model with attention over 2 x 2 cells, on disk."""
    return save_looking_bundle(tmp_path_factory.mktemp("bundles") / "looking", LOOKING_GRAPHS)


@pytest.fixture(scope="session")
def blind_bundle(tmp_path_factory):
    """The same model without its attention output."""
    step = LOOKING_GRAPHS["decoder_step.onnx"].replace(", float[N, 4] next_attention", "")
    path = tmp_path_factory.mktemp("bundles") / "blind"
    return save_looking_bundle(path, {**LOOKING_GRAPHS, "decoder_step.onnx": step})


@pytest.fixture
def night_image(tmp_path):
    """A dark image with a bright upper right quarter."""
    pixels = np.full((60, 90, 3), 20, np.uint8)
    pixels[:30, 45:] = 240
    Image.fromarray(pixels).save(tmp_path / "night.png")
    return tmp_path / "night.png"


@pytest.fixture(scope="module")
def serve():
    """Start `showtell serve` with options and return its URL and process. The servers stop after the module."""
    started = []

    def start(*options):
        command = [sys.executable, "-m", "showtell", "serve", "--port", "0", *map(str, options)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        started.append(process)
        for line in process.stderr:
            if found := re.search(r"http://\S+:\d+", line):
                return found.group(), process
        raise AssertionError(f"{command}: exit status {process.wait()}")

    yield start
    for process in started:
        process.kill()
        process.communicate()
