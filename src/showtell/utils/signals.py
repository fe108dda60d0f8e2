"""Stop gracefully on Ctrl-C and SIGTERM."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C or SIGTERM sets. A second signal stops the program as usual.

    Outside the main thread, where Python allows no signal handlers, the event is never set.
    """
    stop_event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop_event
        return
    previous: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _: object) -> None:
        stop_event.set()
        signal.signal(number, previous[number])

    for number in previous:
        signal.signal(number, stop)
    try:
        yield stop_event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def take_until_set(event: threading.Event, items: Iterable[Item], on_stop: Callable[[], None]) -> Iterator[Item]:
    """Yield items until an event is set. Call `on_stop` if items remain."""
    for item in items:
        if event.is_set():
            on_stop()
            return
        yield item
