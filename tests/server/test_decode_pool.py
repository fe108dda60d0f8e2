"""Image decoding in real worker processes, with limits."""

import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from helpers import EXAMPLES
from PIL import Image

from showtell.errors import ImageError, ShowtellError
from showtell.images import Preprocess
from showtell.server import ServerSettings
from showtell.server.decode_pool import LARGE_PIXELS, DecodePool, DecodeWorker
from showtell.server.decode_worker import PIXELS, WorkerOptions

PHOTO = (EXAMPLES / "000000126107.jpg").read_bytes()
PREPROCESSES = [Preprocess(32), Preprocess(50, "crop", "bilinear")]


def png(width, height, mode="RGB"):
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert(mode).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


LARGE = png(2048, LARGE_PIXELS // 2048 + 1)


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
    with DecodePool(PREPROCESSES, ServerSettings(max_pixels=LARGE_PIXELS * 2)) as pool:
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


def test_workers_that_die_are_replaced(pool):
    for pid in workers_of(os.getpid()):
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: not is_running(pid))
    assert all(pool.submit(PHOTO).result(60) for _ in range(10))


def test_an_image_whose_worker_dies_gets_an_error(pool):
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


def test_a_worker_that_hangs_is_killed_at_the_deadline_of_the_request(pool):
    for pid in workers_of(os.getpid()):
        os.kill(pid, signal.SIGSTOP)
    futures = [pool.submit(PHOTO, time.monotonic() + 0.5) for _ in range(8)]
    for future in futures:
        with pytest.raises(ImageError, match="not decoded before the request timed out"):
            future.result(60)
    assert pool.submit(PHOTO).result(60)


class LateWorker(DecodeWorker):
    """A worker that is killed at the latest possible time: after its reply, and before its deadline is removed."""

    def _exchange(self, content):
        reply = super()._exchange(content)
        self.kill_if_late()
        return reply


def test_a_worker_that_is_killed_after_its_reply_does_not_affect_the_next_image():
    worker = LateWorker(WorkerOptions(tuple(PREPROCESSES), 10**6, 10**6, 5, 10**8, 0))
    try:
        for _ in range(3):
            assert worker.decode(PHOTO, deadline=time.monotonic())[0] == PIXELS
            assert worker.decode(PHOTO, deadline=time.monotonic() + 60)[0] == PIXELS
    finally:
        worker.close()


def test_exit_cancels_waiting_images_and_ends_the_workers():
    others = workers_of(os.getpid())
    with DecodePool(PREPROCESSES, ServerSettings()) as pool:
        workers = [pid for pid in workers_of(os.getpid()) if pid not in others]
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        futures = [pool.submit(PHOTO) for _ in range(20)]
    assert all(future.done() for future in futures) and not any(map(is_running, workers))
    assert pool.submit(PHOTO).cancelled()


NO_SLOW_WORKER = """
import os, sys

if "decode_worker" in str(sys.orig_argv) and '"niceness": 10' in sys.orig_argv[-1]:
    os._exit(7)
"""


def test_a_worker_that_cannot_start_is_an_error_of_one_line(showtell, looking_bundle, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(NO_SLOW_WORKER)
    monkeypatch.syspath_prepend(tmp_path)
    before = workers_of(os.getpid())
    with pytest.raises(ShowtellError) as error, DecodePool(PREPROCESSES, ServerSettings()):
        pass
    assert workers_of(os.getpid()) == before  # those that had started are ended
    done = showtell("serve", "--port", 0, "--model", looking_bundle, environment={"PYTHONPATH": tmp_path}, status=2)
    assert done.stderr == f"error: {error.value}\n"
    assert "cannot start the image decoders: an image decoder ended with status 7" in done.stderr


def test_images_are_decoded_if_standard_error_is_closed():
    program = textwrap.dedent("""
        import sys
        from showtell.images import Preprocess
        from showtell.server import ServerSettings
        from showtell.server.decode_pool import DecodePool

        with DecodePool([Preprocess(32)], ServerSettings()) as pool:
            print(pool.submit(sys.stdin.buffer.read()).result(60)[0].shape)
    """)
    command = ["bash", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, program]
    done = subprocess.run(command, input=PHOTO, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"(32, 32, 3)\n", b"")


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
