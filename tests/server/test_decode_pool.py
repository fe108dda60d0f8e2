"""Image decoding in real worker processes, with limits."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from helpers import EXAMPLES
from PIL import Image

from showtell.errors import ImageError
from showtell.images import Preprocess
from showtell.server import ServerSettings
from showtell.server.decode_pool import FAST_PIXELS, DecodePool

PHOTO = (EXAMPLES / "000000126107.jpg").read_bytes()
PREPROCESSES = [Preprocess(32), Preprocess(50, "crop", "bilinear")]


def png(width, height, mode="RGB"):
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert(mode).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


LARGE = png(2048, FAST_PIXELS // 2048 + 1)


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def workers_of(pid):
    """Return the process IDs of the decode workers of a process."""
    children = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in children.splitlines() if "decode_worker" in line]


def is_running(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def pool():
    with DecodePool(PREPROCESSES, ServerSettings(max_pixels=FAST_PIXELS * 2)) as pool:
        yield pool


@pytest.mark.parametrize("content", [PHOTO, LARGE, png(40, 30)], ids=["jpeg", "large", "small"])
def test_pixels_equal_those_of_the_library(pool, content):
    for pixels, preprocess in zip(pool.submit(content).result(60), PREPROCESSES, strict=True):
        np.testing.assert_array_equal(pixels, preprocess.load(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"no image", "not an image"),
        (PHOTO[:2000], "damaged"),
        (png(9999, 2000), "limit"),
    ],
    ids=["empty", "text", "truncated", "pixels"],
)
def test_unreadable_images_get_the_error_of_the_library(pool, content, message):
    with pytest.raises(ImageError, match=message):
        pool.submit(content).result(60)


def test_an_image_that_takes_too_long_does_not_affect_others():
    with DecodePool(PREPROCESSES, ServerSettings(decode_seconds=0.02)) as pool:
        slow = [pool.submit(content) for content in (png(2000, 2000), LARGE, LARGE)]
        fast = [pool.submit(png(20, 20)) for _ in range(20)]
        assert all(future.result(60) for future in fast)
        for future in slow:
            with pytest.raises(ImageError, match=r"^took longer than 0.02 s to decode; resize the image$"):
                future.result(60)
        assert pool.submit(png(20, 20)).result(60)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory")
def test_an_image_that_needs_too_much_memory_does_not_affect_others():
    with DecodePool(PREPROCESSES, ServerSettings(decode_bytes=40_000_000)) as pool:
        large = pool.submit(png(8000, 4000))
        others = [pool.submit(PHOTO) for _ in range(20)]
        with pytest.raises(ImageError, match=r"^needs more than 40 MB of memory to decode; resize the image$"):
            large.result(60)
        assert all(future.result(60) for future in others) and pool.submit(png(2000, 1000)).result(60)


def test_workers_that_die_are_replaced():
    with DecodePool(PREPROCESSES, ServerSettings()) as pool:
        for pid in workers_of(os.getpid()):
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: not is_running(pid))
        assert all(pool.submit(PHOTO).result(60) for _ in range(10))


def test_an_image_whose_worker_dies_gets_an_error():
    with DecodePool(PREPROCESSES, ServerSettings()) as pool:
        workers = workers_of(os.getpid())
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        futures = [pool.submit(PHOTO) for _ in range(10)]
        for pid in workers:
            os.kill(pid, signal.SIGSEGV)
            os.kill(pid, signal.SIGCONT)
        errors = [error for future in futures if (error := future.exception(60)) is not None]
        assert len(errors) <= len(workers) and {str(error) for error in errors} <= {
            "damaged or unreadable (the decoder crashed)"
        }
        assert pool.submit(PHOTO).result(60)


def test_a_worker_that_hangs_is_killed_at_the_deadline_of_the_request():
    with DecodePool(PREPROCESSES, ServerSettings()) as pool:
        for pid in workers_of(os.getpid()):
            os.kill(pid, signal.SIGSTOP)
        futures = [pool.submit(PHOTO, time.monotonic() + 0.5) for _ in range(8)]
        for future in futures:
            with pytest.raises(ImageError, match="not decoded before the request timed out"):
                future.result(60)
        assert pool.submit(PHOTO).result(60)


def test_exit_cancels_waiting_images_and_ends_the_workers():
    with DecodePool(PREPROCESSES, ServerSettings()) as pool:
        workers = workers_of(os.getpid())
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        futures = [pool.submit(PHOTO) for _ in range(20)]
    assert all(future.done() for future in futures) and not any(map(is_running, workers))


def test_workers_import_neither_the_models_nor_the_web_framework():
    program = "import sys, showtell.server.decode_worker\nprint(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.split()
    assert "showtell.images" in modules and not {"onnxruntime", "fastapi", "tokenizers", "typer"} & set(modules)


def post(address, content):
    try:
        return httpx.post(f"{address}/v1/captions", files={"files": ("a.png", content)}, timeout=60)
    except httpx.HTTPError as error:
        return error


def test_the_server_stops_in_time_whatever_its_workers_do(serve, looking_bundle):
    address, process = serve("--model", looking_bundle, "--timeout", 1)
    workers = workers_of(process.pid)
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    responses = []
    client = threading.Thread(target=lambda: responses.append(post(address, PHOTO)))
    client.start()
    wait_for(lambda: in_flight(address) == 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0 and process.stderr.read() == ""
    client.join()
    assert responses[0].status_code == 503 and "retry later" in responses[0].json()["error"]
    assert not any(map(is_running, workers))


def test_workers_end_with_a_killed_server(serve, looking_bundle):
    address, process = serve("--model", looking_bundle)
    workers = workers_of(process.pid)
    client = threading.Thread(target=post, args=(address, png(6000, 8000)))
    client.start()
    wait_for(lambda: in_flight(address) == 1)
    process.kill()
    client.join()
    wait_for(lambda: not any(map(is_running, workers)))


def in_flight(address):
    return float(re.search(r"^showtell_requests_in_flight (\S+)", httpx.get(f"{address}/metrics").text, re.M).group(1))
