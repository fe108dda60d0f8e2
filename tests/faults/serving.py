"""Kill servers, and check the responses of the next server at the same port."""

import random
import re
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
from harness import ENVIRONMENT, SEED, SHOWTELL, require


def serve(port: int) -> tuple[subprocess.Popen, str]:
    """Start a server; return its process and address once it accepts requests."""
    process = subprocess.Popen(
        [*SHOWTELL, "serve", "--port", str(port)], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    for line in process.stderr or ():
        if match := re.search(r"http://\S+:\d+", line):
            return process, match.group()
    raise AssertionError(f"the server exited with status {process.wait()}")


def post_image(address: str, image: Path) -> dict:
    """Return a server's response to an image."""
    return httpx.post(f"{address}/v1/captions", files={"files": image.open("rb")}, timeout=60).json()


def kill_servers(image: Path, numbers: Iterable[int]) -> Iterator[int]:
    """Kill one server per number, in turn during a request and during startup; yield the number after each.

    Raises:
        AssertionError: if the next server at the same port responds differently from the first one.
    """
    start = time.monotonic()
    process, address = serve(0)
    startup_seconds = time.monotonic() - start
    try:
        expected = post_image(address, image)
        start = time.monotonic()
        require(post_image(address, image) == expected, "two responses of the first server differ")
        response_seconds = time.monotonic() - start
        port = int(address.rsplit(":", 1)[1])
        for number in numbers:
            rng = random.Random(f"{SEED} serve {number}")
            if number % 2:
                client = threading.Thread(target=_post_to_dying_server, args=(address, image))
                client.start()
                time.sleep(rng.uniform(0, response_seconds))
                process.kill()
                process.communicate()
                client.join()
            else:
                process.kill()
                process.communicate()
                process = subprocess.Popen(
                    [*SHOWTELL, "serve", "--port", str(port)], stderr=subprocess.DEVNULL, env=ENVIRONMENT
                )
                time.sleep(rng.uniform(0, startup_seconds))
                process.kill()
                process.wait()
            process, address = serve(port)
            require(post_image(address, image) == expected, f"the response after kill {number} differs")
            yield number
    finally:
        process.kill()
        process.communicate()


def _post_to_dying_server(address: str, image: Path) -> None:
    with suppress(httpx.HTTPError):
        post_image(address, image)
