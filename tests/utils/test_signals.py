"""Stopping on signals."""

import signal
import threading

import pytest

from showtell.utils.signals import stop_signals, take_until_set


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_sets_the_event_and_the_second_stops_the_program(number):
    def stop(*_):
        raise KeyboardInterrupt

    previous = signal.signal(number, stop)
    try:
        with pytest.raises(KeyboardInterrupt), stop_signals() as event:
            signal.raise_signal(number)
            assert event.is_set()
            signal.raise_signal(number)
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, previous)


def test_items_are_taken_until_the_event_is_set():
    event, stopped = threading.Event(), []
    items = take_until_set(event, iter(range(5)), lambda: stopped.append(True))
    assert [next(items), next(items)] == [0, 1]
    event.set()
    assert list(items) == [] and stopped == [True]


def test_an_event_set_after_the_last_item_is_ignored():
    event, stopped = threading.Event(), []
    for _ in take_until_set(event, [1], lambda: stopped.append(True)):
        event.set()
    assert not stopped
