"""Stopping on request at a good place, not in the middle of something."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C and SIGTERM set, instead of stopping the program in the middle of a step."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    previous: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _: object) -> None:
        stopping.set()
        signal.signal(number, previous[number])  # whoever asks twice does not want to wait

    for number in previous:
        signal.signal(number, stop)
    try:
        yield stopping
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def take_until_set(stopping: threading.Event, items: Iterable[Item], stopped: Callable[[], None]) -> Iterator[Item]:
    """Yield items until the event is set; if it was before the last of them, call `stopped`."""
    for item in items:
        if stopping.is_set():
            stopped()
            return
        yield item
