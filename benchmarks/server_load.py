"""Load on `showtell serve`: clients that send good, bad and hostile uploads at once, and check every answer.

python benchmarks/server_load.py [--seconds 120] [--clients 32]

It starts a server of its own on this machine and talks to no other. It ends with exit status 1 if an answer was wrong.
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
from _measure import tell
from PIL import Image

from showtell import Captioner

MAX_REQUESTS = 200_000
MEGABYTE = 1_000_000
WARMING = 10  # seconds until memory is looked at: caches and threads are there by then
REST = 3  # seconds after the last request until memory is looked at again


@dataclass(frozen=True)
class Case:
    """A request, how often it is sent in comparison with others, and whether an answer to it is right."""

    name: str
    weight: int
    files: list[tuple[str, bytes]]
    fields: dict[str, Any]
    right: Callable[[int, Any], bool]


@dataclass
class Findings:
    """What the clients saw."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    images: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def cases() -> list[Case]:
    """Make the requests, and ask the captioner itself for the right answers."""
    photos = {path.name: path.read_bytes() for path in sorted(Path("examples").glob("*.jpg"))}
    captioner = Captioner.load()
    made = []
    for number, (name, content) in enumerate(photos.items()):
        n_best = 1 + number % 3
        attention = number % 2 == 0
        # The captioner gives the same in any company, to the last digit.
        options = replace(captioner.search_options, n_best=n_best)
        (result,) = captioner.caption([content], options)
        expected = [(caption.text, round(caption.log_prob, 4)) for caption in result.captions]

        def right(
            status: int, answer: Any, name: str = name, expected: Any = expected, attention: bool = attention
        ) -> bool:
            (entry,) = answer["captions"]
            found = [(caption["caption"], caption["log_prob"]) for caption in entry["captions"]]
            looked = all(("attention" in caption) == attention for caption in entry["captions"])
            return status == 200 and entry["file"] == name and found == expected and looked

        made.append(Case("one image", 4, [(name, content)], {"n_best": n_best, "attention": attention}, right))
    texts = [result.captions[0].text for result in captioner.caption(list(photos.values()))]
    truncated = next(iter(photos.values()))[:2000]
    made += [
        Case(
            "all images, one of them truncated",
            2,
            [*photos.items(), ("truncated.jpg", truncated)],
            {},
            lambda status, answer: (
                status == 200
                and [entry.get("caption") for entry in answer["captions"]] == [*texts, None]
                and "damaged" in answer["captions"][-1]["error"]
            ),
        ),
        Case("no image", 3, [("page.html", b"<html>" * 1000)], {}, refused(422, "not an image")),
        Case("too many pixels", 2, [("bomb.png", bomb())], {}, refused(422, "pixels")),
        Case("too many files", 1, [(f"{number}.gif", b"GIF") for number in range(17)], {}, refused(413, "files")),
        Case("too large", 1, [("large.jpg", bytes(33 * MEGABYTE))], {}, refused(413, "MB")),
        Case("a field that is wrong", 2, [next(iter(photos.items()))], {"n_best": "x"}, refused(422, "n_best")),
        Case("an unknown field", 1, [next(iter(photos.items()))], {"colour": "x"}, refused(422, "colour")),
    ]
    return made


def refused(status: int, part: str) -> Callable[[int, Any], bool]:
    """Return what is right for a request that must be refused with a status and a line with a part."""
    return lambda found, answer: found == status and part in answer["error"]


def bomb() -> bytes:
    """Return a small file of an image of 400 million pixels."""
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def server() -> Iterator[str]:
    """Run `showtell serve`; yield its address, and see that it ends as it should."""
    command = [sys.executable, "-m", "showtell", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r"http://\S+:\d+", process.stderr.readline())
        if found is None:
            raise SystemExit("the server has not started")
        try:
            yield found.group()
        finally:
            process.terminate()
            rest = process.stderr.read()
    if process.returncode or rest:
        raise SystemExit(f"the server has ended with {process.returncode}: {rest}")


def client(address: str, number: int, until: float, requests: list[Case], findings: Findings) -> None:
    """Send requests, one after the other, and look at the answers."""
    random_ = random.Random(number)
    weights = [case.weight for case in requests]
    with httpx.Client(base_url=address, timeout=60) as http:
        while time.monotonic() < until and sum(findings.statuses.values()) < MAX_REQUESTS:
            (case,) = random_.choices(requests, weights)
            files = [("files", named) for named in case.files]
            began = time.perf_counter()
            try:
                response = http.post("/v1/captions", files=files, data=case.fields)
                status, answer = response.status_code, response.json()
                fine = (status == 503 and "Retry-After" in response.headers) or case.right(status, answer)
                problem = "" if fine else f"{case.name}: {status} {response.text[:300]}"
            except (httpx.HTTPError, KeyError, ValueError) as error:
                status, problem = 0, f"{case.name}: {error!r}"
            taken = time.perf_counter() - began
            with findings.lock:
                findings.statuses[status] += 1
                findings.seconds.setdefault(case.name, []).append(taken)
                findings.images += len(case.files) if status == 200 else 0
                if problem:
                    findings.wrong.append(problem)


def memory(address: str) -> float:
    """Return the MB that the server holds."""
    text = httpx.get(f"{address}/metrics", timeout=60).text
    found = re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
    if found is None:
        raise SystemExit("the server does not tell its memory on this system")
    return float(found.group(1)) / MEGABYTE


def main() -> None:
    """Load, watch and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=32)
    asked = parser.parse_args()
    requests = cases()
    findings = Findings()
    with server() as address:
        began = time.monotonic()
        until = began + asked.seconds
        clients = [
            threading.Thread(target=client, args=(address, number, until, requests, findings), daemon=True)
            for number in range(asked.clients)
        ]
        for thread in clients:
            thread.start()
        held = []
        while any(thread.is_alive() for thread in clients):
            time.sleep(1)
            if time.monotonic() - began > min(WARMING, asked.seconds / 3):
                held.append(memory(address))
        took = time.monotonic() - began
        time.sleep(REST)
        held.append(memory(address))
    report(findings, took, held, asked.clients)


def report(findings: Findings, took: float, held: list[float], clients: int) -> None:
    """Print what was found; exit with 1 if an answer was wrong."""
    every = sorted(second for each in findings.seconds.values() for second in each)
    for name, seconds in findings.seconds.items():
        tell(f"  {name}", f"{len(seconds)} requests", "", f"median {statistics.median(seconds):.2f} s", "")
    rate = f"{len(every) / took:.1f} requests/s, {findings.images / took:.1f} images/s"
    tell(f"load, {clients} clients, {took:.0f} s", rate, "", "", "")
    tell("time to an answer", f"p50 {at(every, 0.5):.2f} s, p99 {at(every, 0.99):.2f} s", "", "", "")
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(findings.statuses.items()))
    bad = sum(count for status, count in findings.statuses.items() if status >= 500 and status != 503)
    tell("answers by status", statuses, "", f"{bad} of 5xx but 503", "0")
    start, peak, end = held[0], max(held), held[-1]
    tell("memory", f"start {start:.0f} MB, peak {peak:.0f} MB, end {end:.0f} MB", "", f"{end / start:.2f} x", "1.1 x")
    tell("wrong answers", str(len(findings.wrong)), "", "", "0")
    if findings.wrong:
        raise SystemExit("\n".join(findings.wrong[:20]))


def at(values: list[float], share: float) -> float:
    """Return the value of sorted values below which a share of them lies."""
    return values[min(len(values) - 1, int(share * len(values)))]


if __name__ == "__main__":
    main()
