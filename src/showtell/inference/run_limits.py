"""Limits of the memory and the time that a model may take, in proportion to its size.

Without loops, an ONNX graph ends. But a model of a hundred bytes can make a tensor of 10 GB, and multiply it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer, local

import onnxruntime

from showtell.utils.threads import THREADS

# Batches of four images take less than 100 MB per thread in the shipped encoder.
BYTES_PER_THREAD = 128_000_000
BYTES_PER_MODEL_BYTE = 16
# ONNX Runtime computes constant parts of a graph when it loads a model. Shapes and scales are smaller than this limit.
MAX_CONSTANT_BYTES = 16_384
SECONDS_PER_IMAGE = 10.0
MODEL_BYTES_PER_SECOND = 10_000_000

_current = local()


def limit_memory(options: onnxruntime.SessionOptions, model_bytes: int) -> None:
    """Limit the memory for the tensors of the next session that is opened with these options.

    ONNX Runtime refuses a larger allocation with an error. Registering replaces the allocator for later sessions only.
    """
    limit = BYTES_PER_THREAD * THREADS + BYTES_PER_MODEL_BYTE * model_bytes
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    extend_as_requested = {"arena_extend_strategy": 1}
    onnxruntime.create_and_register_allocator(
        memory, onnxruntime.OrtArenaCfg({"max_mem": limit, **extend_as_requested})
    )
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(MAX_CONSTANT_BYTES))


@contextmanager
def limit_time(images: int, model_bytes: int) -> Iterator[None]:
    """Limit the time of all models that this thread runs in the context, for a batch of images.

    The limit is a hundred times what a model of this size takes. ONNX Runtime checks it after each operator.
    """
    _current.options = options = onnxruntime.RunOptions()
    options.log_severity_level = 4  # errors become exceptions
    timer = Timer(images * (SECONDS_PER_IMAGE + model_bytes / MODEL_BYTES_PER_SECOND), _terminate, [options])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _current.options = None


def current_run_options() -> onnxruntime.RunOptions | None:
    """Return the options for a run of a model in this thread; None without a limit."""
    return getattr(_current, "options", None)


def _terminate(options: onnxruntime.RunOptions) -> None:
    options.terminate = True
