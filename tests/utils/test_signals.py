"""Stopping on signals."""

import os
import signal
import subprocess
import sys
import threading
from functools import partial

import pytest

from showtell.utils.signals import stop_signals, take_until_set

# Threads are in ONNX Runtime for minutes. Python waits for them at exit.
PROGRAM = """
import sys
import onnx.parser
import onnxruntime
from showtell.utils.signals import end_on_second_interrupt, stop_signals
from showtell.utils.threads import parallel_map

model = onnx.parser.parse_model('''<ir_version: 8, opset_import: ["": 17]>
    endless (float[1] start) => (float[1] end) <int64 count = {10000000000}, bool again = {1}> {
        end = Loop (count, again, start) <body = body (int64 i, bool c, float[1] x) => (bool d, float[1] y) {
            d = Identity (c)
            y = Sin (x)
        }>
    }''')
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

def work(number):
    print("working", flush=True)
    session.run(None, {"start": [0.5]})

end_on_second_interrupt()
if sys.argv[1] == "graceful":
    with stop_signals():
        list(parallel_map(work, range(1), ahead=1))
else:
    list(parallel_map(work, range(1), ahead=1))
"""


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("graceful", signal.SIGINT, signal.SIGINT),
        ("graceful", signal.SIGTERM, signal.SIGINT),
        ("graceful", signal.SIGINT, signal.SIGTERM),
        ("immediate", signal.SIGINT, signal.SIGINT),
    ],
)
def test_a_second_signal_ends_a_process_that_is_busy_in_onnx_runtime(kind, first, second):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background processes with SIGINT ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "working\n"
    process.send_signal(first)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(second)
    process.communicate(timeout=60)
    assert process.returncode == -second


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_sets_the_event_and_the_handlers_are_restored(number):
    before = signal.getsignal(number)
    with stop_signals() as event:
        assert not event.is_set()
        signal.raise_signal(number)
        assert event.is_set() and signal.getsignal(number) is before
    assert signal.getsignal(number) is before


@pytest.fixture
def python_handler():
    """Handle Ctrl-C as Python does by default. In a background job of a shell, it is ignored."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_in_a_python_session_raises_keyboard_interrupt(first, python_handler):
    with pytest.raises(KeyboardInterrupt), stop_signals() as event:
        signal.raise_signal(first)
        assert event.is_set()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


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
