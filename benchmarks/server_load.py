"""Load test of `showtell serve`: well-behaved clients send valid requests, and hostile clients attack the server.

    python benchmarks/server_load.py [--seconds 120] [--clients 32] [--hostile 0]

It starts its own server on this machine and checks every response. Well-behaved clients retry after status 503. The
exit status is 1 if a response was wrong or had a status of 5xx other than 503, or if the memory grew.
"""

import random
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import httpx
from _hostile_clients import Check, Files, create_attacks, run_attack
from _measure import EXAMPLES, make_parser, print_result

from showtell import Captioner

WARMUP_SECONDS = 10  # before memory is measured, so that caches are filled and threads have started
MAX_MEMORY_RATIO = 1.2  # of the last tenth of the measurements to the first tenth


@dataclass(frozen=True)
class Case:
    """A valid request, its relative frequency, and a check of the response."""

    name: str
    weight: int
    files: Files
    fields: dict[str, Any]
    is_correct: Check


@dataclass
class Results:
    """What clients measured."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    images: int = 0

    def add(self, name: str, seconds: float, status: int, error: str) -> None:
        """Record a response; `error` is empty if it is correct."""
        self.seconds.setdefault(name, []).append(seconds)
        self.statuses[status] += 1
        if error:
            self.errors.append(error)

    def merge(self, other: "Results") -> None:
        """Add the results of another client."""
        for name, seconds in other.seconds.items():
            self.seconds.setdefault(name, []).extend(seconds)
        self.statuses += other.statuses
        self.errors += other.errors
        self.images += other.images


def create_cases() -> list[Case]:
    """Create the valid requests, with the results of the captioner itself as the expected responses."""
    photos = {path.name: path.read_bytes() for path in sorted(EXAMPLES.glob("*.jpg"))}
    captioner = Captioner.load()
    texts = [result.captions[0].text for result in captioner.caption(list(photos.values()))]
    truncated = ("truncated.jpg", next(iter(photos.values()))[:2000])
    single = [
        one_image(captioner, name, content, n_best=1 + number % 3, attention=number % 2 == 0)
        for number, (name, content) in enumerate(photos.items())
    ]
    return [
        *single,
        Case(
            "all images, one of them truncated",
            2,
            [*photos.items(), truncated],
            {},
            lambda status, body: (
                status == 200
                and [image.get("caption") for image in body["captions"]] == [*texts, None]
                and "damaged" in body["captions"][-1]["error"]
            ),
        ),
    ]


def one_image(captioner: Captioner, name: str, content: bytes, n_best: int, attention: bool) -> Case:
    """Create a valid request with one image."""
    # Batching changes neither captions nor log-probabilities.
    (result,) = captioner.caption([content], replace(captioner.search_options, n_best=n_best))
    expected = [(caption.text, round(caption.log_prob, 4)) for caption in result.captions]

    def is_correct(status: int, body: Any) -> bool:
        (image,) = body["captions"]
        captions = [(caption["caption"], caption["log_prob"]) for caption in image["captions"]]
        has_attention = all(("attention" in caption) == attention for caption in image["captions"])
        return status == 200 and image["file"] == name and captions == expected and has_attention

    return Case("one image", 4, [(name, content)], {"n_best": n_best, "attention": attention}, is_correct)


@contextmanager
def start_server() -> Iterator[tuple[str, int]]:
    """Run `showtell serve`; yield its address and process ID, and check its exit."""
    command = [sys.executable, "-m", "showtell", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        match = re.search(r"http://\S+:\d+", process.stderr.readline())
        if match is None:
            raise SystemExit("the server did not start")
        try:
            yield match.group(), process.pid
        finally:
            process.terminate()
            stderr = process.stderr.read()
    if process.returncode or stderr:
        raise SystemExit(f"the server exited with status {process.returncode}: {stderr}")


def run_clients(run_client: Callable[[int], Results], clients: int) -> Results:
    """Run clients in threads; return their results together."""
    results = Results()
    with ThreadPoolExecutor(max(clients, 1)) as pool:
        for client_results in pool.map(run_client, range(clients)):
            results.merge(client_results)
    return results


def run_good_client(seed: int, address: str, end: float, cases: list[Case]) -> Results:
    """Send valid requests one after another until a time of the monotonic clock, and check the responses."""
    rng = random.Random(seed)
    results = Results()
    with httpx.Client(base_url=address, timeout=60) as http:
        while time.monotonic() < end:
            (case,) = rng.choices(cases, [case.weight for case in cases])
            start = time.perf_counter()
            status, error, retry_seconds = send(http, case)
            results.add(case.name, time.perf_counter() - start, status, error)
            results.images += len(case.files) if status == 200 else 0
            time.sleep(retry_seconds)
    return results


def send(http: httpx.Client, case: Case) -> tuple[int, str, float]:
    """Send a request; return the status, what is wrong with the response or an empty string, and the time to wait."""
    try:
        response = http.post("/v1/captions", files=[("files", file) for file in case.files], data=case.fields)
        status = response.status_code
        if status == 503:
            return status, "", float(response.headers["Retry-After"])
        is_correct = case.is_correct(status, response.json())
        return status, "" if is_correct else f"{case.name}: {status} {response.text[:300]}", 0
    except (httpx.HTTPError, KeyError, ValueError) as error:
        return 0, f"{case.name}: {error!r}", 0


def count_attacks(name: str, photo: bytes) -> int:
    """Return the number of kinds of attacks. The call also creates them for `attack_server`."""
    return len(create_attacks(name, photo))


def attack_server(address: str, end: float, name: str, photo: bytes, clients: int) -> Results:
    """Attack the server with a number of clients until a time of the monotonic clock."""
    attacks = create_attacks(name, photo)

    def run_client(seed: int) -> Results:
        rng = random.Random(seed)
        results = Results()
        while time.monotonic() < end:
            attack = rng.choice(attacks)
            start = time.perf_counter()
            status, error = run_attack(address, attack)
            results.add(attack.name, time.perf_counter() - start, status, error)
        return results

    return run_clients(run_client, clients)


def read_memory(pid: int) -> float:
    """Return the resident memory of a process and its children in MB. Memory that they share counts for each."""
    command = ["ps", "-o", "rss=", "--pid", str(pid), "--ppid", str(pid)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return sum(map(int, lines)) / 1000


def run_load(seconds: float, clients: int, hostile: int) -> tuple[Results, Results, list[float]]:
    """Return the results of the good and of the hostile clients, and the memory in MB once per second."""
    cases = create_cases()
    (name, photo) = cases[0].files[0]
    memory = []
    with (
        ThreadPoolExecutor(1) as here,
        ProcessPoolExecutor(1, get_context("spawn")) as elsewhere,  # so that they do not slow the good clients down
        start_server() as (address, pid),
    ):
        elsewhere.submit(count_attacks, name, photo).result()
        start = time.monotonic()
        end = start + seconds
        attack = elsewhere.submit(attack_server, address, end, name, photo, hostile)
        good = here.submit(run_clients, partial(run_good_client, address=address, end=end, cases=cases), clients)
        while not (good.done() and attack.done()):
            time.sleep(1)
            if time.monotonic() - start > min(WARMUP_SECONDS, seconds / 3):
                memory.append(read_memory(pid))
        return good.result(), attack.result(), memory


def report(title: str, results: Results, seconds: float) -> None:
    """Print the results of a group of clients."""
    for name, case_seconds in results.seconds.items():
        median = f"median {statistics.median(case_seconds):.2f} s"
        print_result(f"  {name}", f"{len(case_seconds)} requests", "", median)
    times = sorted(second for case_seconds in results.seconds.values() for second in case_seconds)
    statuses = ", ".join(f"{status or 'no response'}: {count}" for status, count in sorted(results.statuses.items()))
    print_result(title, f"{len(times) / seconds:.1f} requests/s, {results.images / seconds:.1f} images/s", statuses)
    print_result("  response time", f"p50 {quantile(times, 0.5):.2f} s, p99 {quantile(times, 0.99):.2f} s")


def quantile(values: list[float], share: float) -> float:
    """Return the value of sorted values below which a share of them lies."""
    return values[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    """Run the load test and print the results."""
    parser = make_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=32, help="number of good clients")
    parser.add_argument("--hostile", type=int, default=0, help="number of hostile clients")
    arguments = parser.parse_args()
    good, hostile, memory = run_load(arguments.seconds, arguments.clients, arguments.hostile)
    report(f"{arguments.clients} good clients, {arguments.seconds:.0f} s", good, arguments.seconds)
    if arguments.hostile:
        report(f"{arguments.hostile} hostile clients", hostile, arguments.seconds)
    tenth = max(1, len(memory) // 10)
    begin, end = statistics.median(memory[:tenth]), statistics.median(memory[-tenth:])
    text = f"start {begin:.0f} MB, peak {max(memory):.0f} MB, end {end:.0f} MB"
    print_result("memory of the server and its workers", text, "", f"{end / begin:.2f} x")
    errors = good.errors + hostile.errors
    print_result("wrong responses", str(len(errors)))
    if end > MAX_MEMORY_RATIO * begin:
        errors.append("the memory grew")
    if errors:
        raise SystemExit("\n".join(errors[:20]))


if __name__ == "__main__":
    main()
