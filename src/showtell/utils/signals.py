"""Stop gracefully on Ctrl-C and SIGTERM."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C or SIGTERM sets.

    A second signal is handled as before: Ctrl-C raises KeyboardInterrupt in a Python session, and ends the process
    after `end_on_second_interrupt`. Outside the main thread, where Python allows no signal handlers, the event is never
    set.
    """
    stop_event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop_event
        return
    previous: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _: object) -> None:
        stop_event.set()
        for either, handler in previous.items():
            signal.signal(either, signal.SIG_DFL if handler is _interrupt else handler)

    for number in previous:
        signal.signal(number, stop)
    try:
        yield stop_event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def end_on_second_interrupt() -> None:
    """Raise KeyboardInterrupt at the first Ctrl-C of this process, and end the process at the second one.

    By default, Python waits for its threads after the first Ctrl-C, and a second one only interrupts the waiting.
    Decoders and ONNX Runtime may take long. Files stay complete, because they are renamed after writing. Only the last
    line of a JSON Lines or CSV file may be incomplete; the next run removes it. This is for the command line: it would
    end the session of a Python user.
    """
    # Shells start background processes with SIGINT ignored; it stays ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt


def take_until_set(event: threading.Event, items: Iterable[Item], on_stop: Callable[[], None]) -> Iterator[Item]:
    """Yield items until an event is set. Call `on_stop` if items remain."""
    for item in items:
        if event.is_set():
            on_stop()
            return
        yield item
