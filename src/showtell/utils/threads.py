"""Work shared among threads, with results in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar


def omp_num_threads() -> int:
    """Return the threads that OMP_NUM_THREADS grants this process, or 0 if it says nothing. Ray sets it for workers."""
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(told) if told.isdecimal() else 0


THREADS = min(8, omp_num_threads() or os.cpu_count() or 1)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def parallel_map(
    work: Callable[[_Item], _Result], items: Iterable[_Item], ahead: int, threads: int | None = None
) -> Iterator[_Result]:
    """Yield what `work` makes of each item, in order, while threads work on the next ones.

    Items are taken as they are needed, so that there may be any number of them.

    Args:
        work: what to do; it helps where it leaves Python's lock, as image decoders, numpy and ONNX Runtime do.
        items: what to do it with.
        ahead: results that may wait for being taken, for each thread.
        threads: how many, if not THREADS: more where work is waiting for a network.
    """
    threads = threads or THREADS
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[_Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > ahead * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
