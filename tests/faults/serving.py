"""Servers that are killed, and what the next one at the same port answers."""

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
    """Start a server, and return it with its address once it serves."""
    process = subprocess.Popen(
        [*SHOWTELL, "serve", "--port", str(port)], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    for line in process.stderr or ():
        if found := re.search(r"http://\S+:\d+", line):
            return process, found.group()
    raise AssertionError(f"the server has ended with {process.wait()}")


def ask(address: str, image: Path) -> dict:
    """Return what a server says of an image."""
    return httpx.post(f"{address}/v1/captions", files={"files": image.open("rb")}, timeout=60).json()


def kill_servers(image: Path, numbers: Iterable[int]) -> Iterator[int]:
    """Kill a server for each number, by turns in the middle of a request and while it starts; yield those done.

    Raises AssertionError if the next server, at the same port, does not answer as the first did.
    """
    began = time.monotonic()
    process, address = serve(0)
    started = time.monotonic() - began
    try:
        expected = ask(address, image)
        began = time.monotonic()
        require(ask(address, image) == expected, "the first server does not say the same twice")
        answered = time.monotonic() - began
        port = int(address.rsplit(":", 1)[1])
        for number in numbers:
            chance = random.Random(f"{SEED} serve {number}")
            if number % 2:
                asking = threading.Thread(target=_ask_in_vain, args=(address, image))
                asking.start()
                time.sleep(chance.uniform(0, answered))
                process.kill()
                process.communicate()
                asking.join()
            else:
                process.kill()
                process.communicate()
                process = subprocess.Popen(
                    [*SHOWTELL, "serve", "--port", str(port)], stderr=subprocess.DEVNULL, env=ENVIRONMENT
                )
                time.sleep(chance.uniform(0, started))
                process.kill()
                process.wait()
            process, address = serve(port)
            require(ask(address, image) == expected, f"server {number} does not answer as the first did")
            yield number
    finally:
        process.kill()
        process.communicate()


def _ask_in_vain(address: str, image: Path) -> None:
    with suppress(httpx.HTTPError):
        ask(address, image)
