"""Limits of the memory and the time that a model may take, in proportion to its size.

A model of a hundred bytes can create a tensor of 10 GB. Loops are refused, so every model ends, but it may be slow.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Event, Lock, Thread, local

import onnxruntime

from showtell.utils.threads import THREADS

# Batches of four images take less than 100 MB per thread in the shipped encoder.
BYTES_PER_THREAD = 128_000_000
BYTES_PER_MODEL_BYTE = 16
# ONNX Runtime computes constant parts of a graph when it loads a model. Shapes and scales are smaller than this limit.
MAX_CONSTANT_BYTES = 16_384
SECONDS_PER_IMAGE = 10.0
SECONDS_PER_TOKEN = 0.005
MODEL_BYTES_PER_SECOND = 10_000_000

# The memory of a model is enough for this number of runs. Programs may use a captioner in more threads.
_running = BoundedSemaphore(THREADS)
_current = local()
_lock = Lock()
_largest_model = 0  # bytes


def limit_memory(options: onnxruntime.SessionOptions, model_bytes: int) -> None:
    """Limit the memory for the tensors of the session that is opened with these options.

    ONNX Runtime refuses a larger allocation with an error. The session gets the allocator that is registered last, and
    keeps it. Another thread may register one in between, so the limit is the largest of all models so far.
    """
    global _largest_model
    with _lock:
        _largest_model = max(_largest_model, model_bytes)
        _register_allocator(BYTES_PER_THREAD * THREADS + BYTES_PER_MODEL_BYTE * _largest_model)
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(MAX_CONSTANT_BYTES))


def _register_allocator(max_bytes: int) -> None:
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    extend_as_requested = 1
    arena = onnxruntime.OrtArenaCfg({"max_mem": max_bytes, "arena_extend_strategy": extend_as_requested})
    onnxruntime.create_and_register_allocator(memory, arena)


@contextmanager
def limit_runs(images: int, tokens: int, model_bytes: int) -> Iterator[None]:
    """Limit the time of all models that this thread runs in the context, and the number of threads that run models.

    The time limit is far above the time of a model of this size. It is not reached while the process is paused or waits
    for other processes. ONNX Runtime checks it after each operator.

    Args:
        images: number of images of the batch.
        tokens: maximum number of tokens of all partial captions of an image.
        model_bytes: size of the models.
    """
    _current.options = options = onnxruntime.RunOptions()
    options.log_severity_level = 4  # errors become exceptions
    seconds = images * (SECONDS_PER_IMAGE + tokens * SECONDS_PER_TOKEN + model_bytes / MODEL_BYTES_PER_SECOND)
    done = Event()
    with _running:
        Thread(target=_terminate_after, args=(options, seconds, done), daemon=True).start()
        try:
            yield
        finally:
            done.set()
            _current.options = None


def current_run_options() -> onnxruntime.RunOptions | None:
    """Return the options for a run of a model in this thread; None without a limit."""
    return getattr(_current, "options", None)


def _terminate_after(options: onnxruntime.RunOptions, seconds: float, done: Event) -> None:
    """Stop the run when the clock has advanced by `seconds`, and the processor time by as much for each thread."""
    deadline = time.process_time() + THREADS * seconds
    while not done.wait(seconds):
        seconds = (deadline - time.process_time()) / THREADS
        if seconds <= 0:
            options.terminate = True
            return
