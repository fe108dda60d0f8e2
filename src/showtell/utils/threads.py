"""Work in several threads, with results in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar


def omp_num_threads() -> int:
    """Return the number of threads in OMP_NUM_THREADS, or 0 if it is not set. Ray sets it for its workers."""
    value = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(value) if value.isdecimal() else 0


THREADS = min(8, omp_num_threads() or os.cpu_count() or 1)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def parallel_map(
    function: Callable[[_Item], _Result], items: Iterable[_Item], ahead: int, threads: int | None = None
) -> Iterator[_Result]:
    """Yield the result of a function for each item, in order, while threads work on the next items.

    The iterable is consumed lazily, so it may be long or endless.

    Args:
        function: the function to call. Threads help if it releases the GIL, as image decoders, NumPy, ONNX Runtime and
            file access do.
        items: its arguments.
        ahead: maximum number of waiting results per thread.
        threads: number of threads, THREADS by default. Use more if the function waits for the network.
    """
    threads = threads or THREADS
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[_Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > ahead * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
