"""Try thousands of damaged files. Each must give a result or a one-line ShowtellError, at a bounded cost.

    make fuzz
    PYTHONPATH=tests python tests/fuzzing/runner.py [KIND ...] [--start N] [--count N] [--seed N]

The cases run in child processes. A crash or a hang is counted, and the run continues. The script prints a Markdown row
for each kind; the exit status is 1 if anything other than results and errors occurred. The files of such cases are
copied to out/fuzz. `runner.py KIND --start NUMBER --count 1` repeats a case.
"""

import argparse
import importlib
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from helpers import ROOT

from showtell.errors import ShowtellError

PROCESSES = 2
START_SECONDS = 120.0  # to import the modules and to make the first files
MAX_GROWTH = 200.0  # MB of memory of a child process in the second half of its cases
MAX_MEMORY = 6 << 30  # bytes of address space, to protect the machine

# Tries one damaged file. It returns if the file is still valid. To leave out the time and memory for making the file,
# it returns a function that reads it.
Case = Callable[[np.random.Generator], Callable[[], object] | None]


@dataclass(frozen=True)
class Kind:
    """A kind of damaged files.

    Attributes:
        title: name in the table.
        module: module with the cases.
        function: function of the module that makes the cases; its argument is an empty folder.
        count: default number of cases.
        max_seconds: limit of the processor time of a case.
        max_megabytes: limit of the peak memory of a case, above the memory before.
        hang_seconds: a case that takes longer is stopped.
    """

    title: str
    module: str
    function: str
    count: int
    max_seconds: float
    max_megabytes: float
    hang_seconds: float = 60.0


KINDS = {
    "images": Kind("images, damaged structure", "image_cases", "structure_case", 30_000, 5, 500),
    "image-bytes": Kind("images, damaged bytes", "image_cases", "byte_case", 20_000, 5, 500),
    "image-bombs": Kind("hostile images", "image_bombs", "bomb_case", 95, 5, 500),
    "bundles": Kind("bundles, damaged structure", "bundle_cases", "bundle_case", 10_000, 10, 500),
    "bundle-bytes": Kind("bundles, damaged bytes", "bundle_byte_cases", "byte_case", 10_000, 10, 500),
    "pages": Kind("pages", "page_cases", "page_case", 5_000, 10, 500),
    "captions": Kind("caption files", "caption_cases", "caption_case", 10_000, 5, 500),
}
FAULTY = {"faulty": Kind("faulty", "faulty_cases", "faulty_case", 8, 0.3, 50, hang_seconds=3)}


@dataclass(frozen=True)
class Result:
    """The result of a case.

    Attributes:
        number: number of the case.
        verdict: "valid", "refused", or a description of the failure.
        seconds: processor time.
        megabytes: peak memory above the memory before.
        resident: memory of the process after the case in MB.
    """

    number: int
    verdict: str
    seconds: float = 0.0
    megabytes: float = 0.0
    resident: float = 0.0

    @property
    def is_failure(self) -> bool:
        """Whether the case neither gave a result nor an error of showtell at a bounded cost."""
        return self.verdict not in ("valid", "refused")


def main() -> None:
    """Run the kinds of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)}; default: all")
    parser.add_argument("--start", type=int, default=0, help="number of the first case (default: 0)")
    parser.add_argument("--count", type=int, help="number of cases; by default up to the number of the kind")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage (default: 0)")
    arguments = parser.parse_args()
    if unknown := set(arguments.kinds) - set(KINDS):
        parser.error(f"unknown kinds: {', '.join(sorted(unknown))}. Known: {', '.join(KINDS)}")
    print("| files | tried | valid | refused | anything else | worst time | worst memory |")
    print("|---|---|---|---|---|---|---|")
    failed = False
    for name in arguments.kinds or KINDS:
        count = KINDS[name].count - arguments.start if arguments.count is None else arguments.count
        results = run(name, range(arguments.start, arguments.start + count), arguments.seed)
        print(row(KINDS[name].title, results), flush=True)
        failed = failed or any(result.is_failure for result in results)
    sys.exit(failed)


def row(title: str, results: list[Result]) -> str:
    """Return a Markdown table row."""
    valid, refused = (sum(result.verdict == verdict for result in results) for verdict in ("valid", "refused"))
    counts = (len(results), valid, refused, len(results) - valid - refused)
    seconds = max((result.seconds for result in results), default=0.0)
    megabytes = max((result.megabytes for result in results), default=0.0)
    return f"| {title} | {' | '.join(f'{count:,}' for count in counts)} | {seconds:.1f} s | {megabytes:.0f} MB |"


def run(name: str, numbers: Sequence[int], seed: int, failures: Path = ROOT / "out" / "fuzz") -> list[Result]:
    """Try cases of one kind in two processes.

    Args:
        name: a key of KINDS or FAULTY.
        numbers: numbers of the cases.
        seed: seed of the damage.
        failures: folder that receives the files of failed cases.
    """
    parts = (numbers[first::PROCESSES] for first in range(PROCESSES))
    workers = [_Worker(name, part, seed, failures) for part in parts if part]
    results: list[Result] = []
    while workers := [worker for worker in workers if worker.numbers]:
        for result in [result for worker in workers for result in worker.collect()]:
            results.append(result)
            if result.is_failure:
                print(f"{name} {result.number} (seed {seed}): {result.verdict}", file=sys.stderr, flush=True)
            if len(results) % 1000 == 0:
                print(f"{name}: {len(results):,} of {len(numbers):,}", file=sys.stderr, flush=True)
    return sorted(results, key=lambda result: result.number)


class _Worker:
    """A child process that tries cases one by one, and is replaced if it crashes or hangs.

    Attributes:
        numbers: numbers of the cases without a result.
    """

    def __init__(self, name: str, numbers: Sequence[int], seed: int, failures: Path):
        self.numbers = numbers
        self._name, self._seed, self._failures = name, seed, failures
        self._kind = (KINDS | FAULTY)[name]
        self._start()

    def collect(self) -> list[Result]:
        """Wait a moment, and return new results."""
        results: list[Result] = []
        ended = False
        try:
            while self.numbers and self._connection.poll(0 if results else 0.05):
                message = self._connection.recv()
                self._ready = True
                self._deadline = time.monotonic() + self._kind.hang_seconds
                if message is not None:
                    results.append(message)
                    self.numbers = self.numbers[1:]
        except EOFError:
            ended = True
        if self.numbers and (ended or time.monotonic() > self._deadline):
            results.append(self._replace())
        elif not self.numbers:
            self._stop()
        return results

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        self._connection, sender = context.Pipe(duplex=False)
        arguments = (self._name, self.numbers, self._seed, Path(self._folder.name), self._failures, sender)
        self._process = context.Process(target=_run_cases, args=arguments, daemon=True)
        self._process.start()
        sender.close()
        self._ready = False
        self._deadline = time.monotonic() + START_SECONDS

    def _replace(self) -> Result:
        """Start a new process after a case that crashed or hung, and return the result of this case."""
        self._process.join(2)
        verdict = "hangs" if self._process.is_alive() else f"crashes (exit status {self._process.exitcode})"
        self._process.kill()
        self._process.join()
        if not self._ready:
            raise RuntimeError(f"{self._name}: the child process failed before its first case: it {verdict}")
        number, self.numbers = self.numbers[0], self.numbers[1:]
        _keep_files(Path(self._folder.name), self._failures, f"{self._name}-{self._seed}-{number}")
        self._stop()
        if self.numbers:
            self._start()
        return Result(number, verdict)

    def _stop(self) -> None:
        self._process.join()
        self._connection.close()
        self._folder.cleanup()


def _run_cases(
    name: str, numbers: Sequence[int], seed: int, folder: Path, failures: Path, connection: Connection
) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    kind = (KINDS | FAULTY)[name]
    case = getattr(importlib.import_module(kind.module), kind.function)(folder)
    connection.send(None)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # libtiff reports damage there
    resident: list[float] = []
    for number in numbers:
        result = _check_cost(_measure(case, seed, number), kind)
        resident.append(result.resident)
        if number == numbers[-1] and (growth := resident[-1] - resident[len(resident) // 2]) > MAX_GROWTH:
            result = replace(result, verdict=f"memory grew by {growth:.0f} MB in {len(resident) // 2:,} cases")
        if result.is_failure:
            _keep_files(folder, failures, f"{name}-{seed}-{number}")
        connection.send(result)


def _measure(case: Case, seed: int, number: int) -> Result:
    verdict = "valid"
    before, began = _start_measuring()
    try:
        decode = case(np.random.default_rng([seed, number]))
        if decode is not None:
            before, began = _start_measuring()
            decode()
    except ShowtellError as error:
        verdict = "refused" if "\n" not in str(error) else f"message of several lines: {error!r}"[:200]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # such as the PanicException of pyo3
        verdict = repr(error)[:200]
    return Result(number, verdict, time.process_time() - began, _memory("VmHWM") - before, _memory("VmRSS"))


def _start_measuring() -> tuple[float, float]:
    """Return the memory in MB and the processor time in seconds, and reset the peak of the memory."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS"), time.process_time()


def _check_cost(result: Result, kind: Kind) -> Result:
    if result.is_failure or (result.seconds <= kind.max_seconds and result.megabytes <= kind.max_megabytes):
        return result
    return replace(result, verdict=f"costs {result.seconds:.1f} s and {result.megabytes:.0f} MB ({result.verdict})")


def _memory(name: str) -> float:
    """Return a value of memory of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) / 1024


def _keep_files(folder: Path, failures: Path, name: str) -> None:
    shutil.copytree(folder, failures / name, symlinks=True, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
