"""What all benchmarks do alike: measure ours and the peer's in one run, and print both with their ratio."""

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def timed(work: Callable[[], Result], repeats: int) -> tuple[float, Result]:
    """Return the shortest time that `work` took, in seconds, and what it returned last.

    The shortest is the one that other programs on the machine disturbed least.
    """
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - began)
    return min(times), result


def print_seconds(what: str, ours: float, peer: float) -> None:
    """Print one line of a comparison of times."""
    print(f"{what}\tours {ours:.4f} s\tpeer {peer:.4f} s\t{peer / ours:.1f} times as fast")
