"""Load test of `showtell serve`: concurrent clients send valid, invalid and hostile uploads and check every response.

    python benchmarks/server_load.py [--seconds 120] [--clients 32]

It starts its own server on this machine. The exit status is 1 if a response was wrong.
"""

import argparse
import io
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from _measure import print_result
from PIL import Image

from showtell import Captioner

MAX_REQUESTS = 200_000
MEGABYTE = 1_000_000
WARMUP_SECONDS = 10  # before memory is measured, so that caches are filled and threads have started
COOLDOWN_SECONDS = 3  # between the last request and the last measurement of memory

Check = Callable[[int, Any], bool]  # (status, JSON body) -> whether the response is correct


@dataclass(frozen=True)
class Case:
    """A request, its relative frequency, and a check of the response."""

    name: str
    weight: int
    files: list[tuple[str, bytes]]
    fields: dict[str, Any]
    is_correct: Check


@dataclass
class Results:
    """What the clients measured."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    images: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, case: Case, seconds: float, status: int, error: str) -> None:
        """Record a response; `error` is empty if it is correct."""
        with self.lock:
            self.statuses[status] += 1
            self.seconds.setdefault(case.name, []).append(seconds)
            self.images += len(case.files) if status == 200 else 0
            if error:
                self.errors.append(error)


def create_cases() -> list[Case]:
    """Create the requests, with the results of the captioner itself as the expected responses."""
    photos = {path.name: path.read_bytes() for path in sorted(Path("examples").glob("*.jpg"))}
    captioner = Captioner.load()
    texts = [result.captions[0].text for result in captioner.caption(list(photos.values()))]
    first_name, first_photo = next(iter(photos.items()))
    valid = [
        one_image(captioner, name, content, n_best=1 + number % 3, attention=number % 2 == 0)
        for number, (name, content) in enumerate(photos.items())
    ]
    return [
        *valid,
        Case(
            "all images, one of them truncated",
            2,
            [*photos.items(), ("truncated.jpg", first_photo[:2000])],
            {},
            lambda status, body: (
                status == 200
                and [image.get("caption") for image in body["captions"]] == [*texts, None]
                and "damaged" in body["captions"][-1]["error"]
            ),
        ),
        Case("not an image", 3, [("page.html", b"<html>" * 1000)], {}, has_error(422, "not an image")),
        Case("too many pixels", 2, [("bomb.png", create_bomb())], {}, has_error(422, "pixels")),
        Case("too many files", 1, [(f"{number}.gif", b"GIF") for number in range(17)], {}, has_error(413, "files")),
        Case("too large", 1, [("large.jpg", bytes(33 * MEGABYTE))], {}, has_error(413, "MB")),
        Case("invalid field", 2, [(first_name, first_photo)], {"n_best": "x"}, has_error(422, "n_best")),
        Case("unknown field", 1, [(first_name, first_photo)], {"colour": "x"}, has_error(422, "colour")),
    ]


def one_image(captioner: Captioner, name: str, content: bytes, n_best: int, attention: bool) -> Case:
    """Create a valid request with one image."""
    # Batching does not change a caption, to the last digit.
    (result,) = captioner.caption([content], replace(captioner.search_options, n_best=n_best))
    expected = [(caption.text, round(caption.log_prob, 4)) for caption in result.captions]

    def is_correct(status: int, body: Any) -> bool:
        (image,) = body["captions"]
        captions = [(caption["caption"], caption["log_prob"]) for caption in image["captions"]]
        has_attention = all(("attention" in caption) == attention for caption in image["captions"])
        return status == 200 and image["file"] == name and captions == expected and has_attention

    return Case("one image", 4, [(name, content)], {"n_best": n_best, "attention": attention}, is_correct)


def has_error(status: int, part: str) -> Check:
    """Return a check for a status and a part of the error message."""
    return lambda actual_status, body: actual_status == status and part in body["error"]


def create_bomb() -> bytes:
    """Return a small file of an image of 400 million pixels."""
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def start_server() -> Iterator[str]:
    """Run `showtell serve`; yield its address, and check its exit."""
    command = [sys.executable, "-m", "showtell", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        match = re.search(r"http://\S+:\d+", process.stderr.readline())
        if match is None:
            raise SystemExit("the server did not start")
        try:
            yield match.group()
        finally:
            process.terminate()
            stderr = process.stderr.read()
    if process.returncode or stderr:
        raise SystemExit(f"the server exited with status {process.returncode}: {stderr}")


def run_client(address: str, seed: int, end: float, cases: list[Case], results: Results) -> None:
    """Send requests one after another until a time of the monotonic clock, and check the responses."""
    rng = random.Random(seed)
    weights = [case.weight for case in cases]
    with httpx.Client(base_url=address, timeout=60) as http:
        while time.monotonic() < end and sum(results.statuses.values()) < MAX_REQUESTS:
            (case,) = rng.choices(cases, weights)
            start = time.perf_counter()
            status, error = send(http, case)
            results.add(case, time.perf_counter() - start, status, error)


def send(http: httpx.Client, case: Case) -> tuple[int, str]:
    """Send a request; return the status, and what is wrong with the response or an empty string."""
    try:
        response = http.post("/v1/captions", files=[("files", file) for file in case.files], data=case.fields)
        status, body = response.status_code, response.json()
        is_overloaded = status == 503 and "Retry-After" in response.headers
        if is_overloaded or case.is_correct(status, body):
            return status, ""
        return status, f"{case.name}: {status} {response.text[:300]}"
    except (httpx.HTTPError, KeyError, ValueError) as error:
        return 0, f"{case.name}: {error!r}"


def read_memory(address: str) -> float:
    """Return the resident memory of the server in MB."""
    metrics = httpx.get(f"{address}/metrics", timeout=60).text
    match = re.search(r"^process_resident_memory_bytes (\S+)$", metrics, re.MULTILINE)
    if match is None:
        raise SystemExit("the server does not report its memory on this system")
    return float(match.group(1)) / MEGABYTE


def main() -> None:
    """Run the load test and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=32)
    arguments = parser.parse_args()
    cases = create_cases()
    results = Results()
    with start_server() as address:
        start = time.monotonic()
        end = start + arguments.seconds
        clients = [
            threading.Thread(target=run_client, args=(address, seed, end, cases, results), daemon=True)
            for seed in range(arguments.clients)
        ]
        for thread in clients:
            thread.start()
        memory = []
        while any(thread.is_alive() for thread in clients):
            time.sleep(1)
            if time.monotonic() - start > min(WARMUP_SECONDS, arguments.seconds / 3):
                memory.append(read_memory(address))
        duration = time.monotonic() - start
        time.sleep(COOLDOWN_SECONDS)
        memory.append(read_memory(address))
    report(results, duration, memory, arguments.clients)


def report(results: Results, duration: float, memory: list[float], clients: int) -> None:
    """Print the results. Exit with status 1 if a response was wrong."""
    seconds = sorted(second for case_seconds in results.seconds.values() for second in case_seconds)
    for name, case_seconds in results.seconds.items():
        print_result(
            f"  {name}", f"{len(case_seconds)} requests", "", f"median {statistics.median(case_seconds):.2f} s"
        )
    rate = f"{len(seconds) / duration:.1f} requests/s, {results.images / duration:.1f} images/s"
    print_result(f"load, {clients} clients, {duration:.0f} s", rate)
    print_result("response time", f"p50 {quantile(seconds, 0.5):.2f} s, p99 {quantile(seconds, 0.99):.2f} s")
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(results.statuses.items()))
    failures = sum(count for status, count in results.statuses.items() if status >= 500 and status != 503)
    print_result("responses by status", f"{statuses}; {failures} with 5xx other than 503")
    start, peak, end = memory[0], max(memory), memory[-1]
    print_result("memory", f"start {start:.0f} MB, peak {peak:.0f} MB, end {end:.0f} MB", "", f"{end / start:.2f} x")
    print_result("wrong responses", str(len(results.errors)))
    if results.errors:
        raise SystemExit("\n".join(results.errors[:20]))


def quantile(values: list[float], share: float) -> float:
    """Return the value of sorted values below which a share of them lies."""
    return values[min(len(values) - 1, int(share * len(values)))]


if __name__ == "__main__":
    main()
