"""Helpers of the benchmarks: alternate between jobs, measure a process, print a result."""

import argparse
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is the docstring of a script."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def time_alternately(jobs: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Run jobs in turn and return the median time of each in seconds.

    The speed of a machine may change from minute to minute. Alternating keeps the ratios of the jobs comparable.

    Args:
        jobs: name -> job. Each runs once before it is timed.
        rounds: number of timed runs of each job.
    """
    for job in jobs.values():
        job()
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def run_process(command: Sequence[str]) -> tuple[float, float]:
    """Run a program and return its duration in seconds and its peak memory in MB."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    return seconds, usage.ru_maxrss / 1024


def print_result(title: str, ours: str, other: str = "", ratio: str = "") -> None:
    """Print a row of the table: what is measured, our result, the result of the peer or the limit, and their ratio."""
    print(title, ours, other, ratio, sep="\t", flush=True)
