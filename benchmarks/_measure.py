"""What the benchmarks share: taking turns, watching a process, and the line that tells a result."""

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence


def interleaved(jobs: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Run jobs by turns, after each has run once unmeasured; return the median seconds of each.

    On a machine whose speed changes from minute to minute, turns make the ratios of the jobs hold.
    """
    for job in jobs.values():
        job()
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken) for name, taken in times.items()}


def run(command: Sequence[str]) -> tuple[float, float]:
    """Run a program; return the seconds that it took and the most memory that it held, in MB."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    return seconds, usage.ru_maxrss / 1024


def tell(claim: str, ours: str, other: str, ratio: str, wanted: str) -> None:
    """Print a result: what is claimed, our figure, the peer's or the limit's, how they compare, and what was wanted."""
    print(claim, ours, other, ratio, wanted, sep="\t", flush=True)
