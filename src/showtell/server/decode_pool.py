"""Worker processes that decode images, so that no image can stop or exhaust the server."""

import logging
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from threading import Event, Lock, Thread
from types import TracebackType
from typing import BinaryIO, cast

import numpy as np

from showtell.errors import ImageError, ShowtellError
from showtell.images import Preprocess
from showtell.server.decode_worker import (
    ERROR,
    FILE,
    LARGE,
    OUT_OF_TIME,
    TOO_MUCH_MEMORY,
    WorkerOptions,
    read_message,
    write_message,
)
from showtell.server.settings import MEGABYTE, MEGAPIXEL, ServerSettings
from showtell.utils.threads import THREADS

logger = logging.getLogger(__name__)

# An image that exceeds one of these limits moves to the slow lane.
FAST_SECONDS = 0.5
LARGE_PIXELS = 5 * MEGAPIXEL
# The slow lane has a lower priority than the other processes of the server.
SLOW_NICENESS = 10
SLOW_WORKERS = max(1, THREADS // 2)
WATCH_SECONDS = 0.2
TOO_LATE = "not decoded before the request timed out; retry later"

Pixels = list[np.ndarray]


class WorkerEnded(Exception):
    """A worker process ended instead of replying."""

    def __init__(self, status: int):
        super().__init__(f"an image decoder ended with status {status}")
        self.status = status


class DecodeWorker:
    """A worker process that is restarted when it has ended. One thread may decode; any thread may kill the process."""

    def __init__(self, options: WorkerOptions):
        self._options = options
        self._lock = Lock()
        self._deadline = math.inf
        self._is_closed = False
        self._is_ready = False
        self._was_late = False
        self._process = self._start()

    @property
    def pid(self) -> int:
        """The process ID of the worker."""
        return self._process.pid

    def restart(self) -> None:
        """Replace the process with a new one, unless the worker is closed."""
        with self._lock:
            if self._is_closed:
                return
            self._end()
            self._is_ready = self._was_late = False
            self._process = self._start()

    def wait_until_ready(self) -> None:
        """Wait until the process has imported its modules. Raises WorkerEnded."""
        if not self._is_ready:
            self._read()
            self._is_ready = True

    def decode(self, content: bytes, deadline: float) -> tuple[int, bytes]:
        """Return the reply to an image file. Raises WorkerEnded if the process ended, or was killed at the deadline.

        Args:
            content: the image file.
            deadline: time of the monotonic clock, in seconds.
        """
        # A process that was killed just after its last reply may still seem to run.
        if self._was_late or self._process.poll() is not None:
            self.restart()
        with self._lock:
            self._deadline = deadline
        try:
            self.wait_until_ready()
            return self._exchange(content)
        finally:
            with self._lock:
                self._deadline = math.inf

    def kill_if_late(self) -> None:
        """Kill the process if its deadline has passed."""
        with self._lock:
            if time.monotonic() > self._deadline:
                self._was_late = True
                self._process.kill()

    def kill(self) -> None:
        """Kill the process, and do not restart it."""
        with self._lock:
            self._is_closed = True
            self._process.kill()

    def close(self) -> None:
        """Kill the process, and wait for its end. Call this after the last `decode` has returned."""
        self.kill()
        self._end()

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603 - the command is our own
            [sys.executable, "-P", "-m", "showtell.server.decode_worker", self._options.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            process_group=None if sys.platform == "win32" else 0,  # not interrupted by Ctrl-C in a terminal
        )

    def _end(self) -> None:
        self._process.kill()
        with suppress(OSError), self._process:  # closes the pipes, and waits for the process
            pass

    def _exchange(self, content: bytes) -> tuple[int, bytes]:
        try:
            write_message(cast(BinaryIO, self._process.stdin), FILE, content)
        except OSError:
            raise self._ended() from None
        return self._read()

    def _read(self) -> tuple[int, bytes]:
        try:
            return read_message(cast(BinaryIO, self._process.stdout))
        except EOFError:
            raise self._ended() from None

    def _ended(self) -> WorkerEnded:
        self._process.kill()  # it may only have closed its pipe
        return WorkerEnded(self._process.wait())


@dataclass(frozen=True)
class _Job:
    content: bytes
    deadline: float
    future: "Future[Pixels]" = field(default_factory=Future)


@dataclass(frozen=True)
class _Lane:
    """A queue of images, and the options of the workers that decode them."""

    options: WorkerOptions
    jobs: "SimpleQueue[_Job | None]" = field(default_factory=SimpleQueue)


class DecodePool:
    """Decode images in worker processes, with limits on the time and memory for each image.

    There are two lanes. Each image starts in the fast lane, which has one worker per core. A slow image moves to the
    slow lane, whose workers have a low priority, so that it does not delay other images. This is a context manager: on
    exit, it cancels all waiting images and ends the processes.

    Args:
        preprocesses: each image is decoded once for each of these.
        settings: the limits.
    """

    def __init__(self, preprocesses: Sequence[Preprocess], settings: ServerSettings):
        self._preprocesses = tuple(preprocesses)
        self._settings = settings
        fast = WorkerOptions(
            preprocesses=self._preprocesses,
            max_pixels=settings.max_pixels,
            large_pixels=LARGE_PIXELS,
            seconds=min(FAST_SECONDS, settings.decode_seconds),
            memory=settings.decode_bytes,
            niceness=0,
        )
        self._fast = _Lane(fast)
        self._slow = _Lane(
            replace(fast, large_pixels=settings.max_pixels, seconds=settings.decode_seconds, niceness=SLOW_NICENESS)
        )
        self._closed = Event()

    def __enter__(self) -> "DecodePool":
        lanes = [self._fast] * THREADS + [self._slow] * SLOW_WORKERS
        self._workers = _start_workers([lane.options for lane in lanes])
        self._threads = [Thread(target=self._watch, name="decoding-watch")] + [
            Thread(target=self._run, args=(lane, worker), name=f"decoding-{worker.pid}")
            for lane, worker in zip(lanes, self._workers, strict=True)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed.set()
        for worker in self._workers:
            worker.kill()
            self._fast.jobs.put(None)
            self._slow.jobs.put(None)
        for thread in self._threads:
            thread.join()
        for worker in self._workers:
            worker.close()
        for lane in (self._fast, self._slow):  # images that moved to the slow lane after its threads had ended
            while not lane.jobs.empty():
                if (job := lane.jobs.get()) is not None:
                    job.future.cancel()

    def submit(self, content: bytes, deadline: float = math.inf) -> "Future[Pixels]":
        """Queue the content of an image file.

        Args:
            content: the image file.
            deadline: time of the monotonic clock, in seconds, after which the result is not needed.

        Returns:
            A future of the pixels (size, size, 3) uint8 for each of `preprocesses`, or an ImageError. It can be
            cancelled until it is done. After the exit of the pool, it is cancelled.
        """
        job = _Job(content, deadline)
        self._fast.jobs.put(job)
        if self._closed.is_set():  # checked last, because the pool may be closed by another thread
            job.future.cancel()
        return job.future

    def _watch(self) -> None:
        while not self._closed.wait(WATCH_SECONDS):
            for worker in self._workers:
                worker.kill_if_late()

    def _run(self, lane: _Lane, worker: DecodeWorker) -> None:
        while (job := lane.jobs.get()) is not None:
            if self._closed.is_set():
                job.future.cancel()
            if job.future.cancelled():
                continue
            try:
                pixels = self._decode(lane, worker, job)
            except Exception as error:  # passed to the waiting request; this thread continues
                if job.future.set_running_or_notify_cancel():
                    job.future.set_exception(error)
            else:
                if pixels and job.future.set_running_or_notify_cancel():
                    job.future.set_result(pixels)

    def _decode(self, lane: _Lane, worker: DecodeWorker, job: _Job) -> Pixels | None:
        """Decode an image. Return None after moving it to the slow lane. Raises ImageError."""
        if time.monotonic() > job.deadline:
            raise ImageError(TOO_LATE)
        try:
            kind, content = worker.decode(job.content, job.deadline)
        except WorkerEnded as ended:
            worker.restart()
            self._handle_end(lane, job, ended.status)
            return None
        if kind == LARGE:
            self._slow.jobs.put(job)
            return None
        if kind == TOO_MUCH_MEMORY:
            worker.restart()  # the memory of the old process may be fragmented
            megabytes = self._settings.decode_bytes / MEGABYTE
            raise ImageError(f"needs more than {megabytes:g} MB of memory to decode; resize the image")
        if kind == ERROR:
            raise ImageError(content.decode())
        return self._split(content)

    def _handle_end(self, lane: _Lane, job: _Job, status: int) -> None:
        """Move the image of a worker that ended to the slow lane, or raise ImageError."""
        if status == OUT_OF_TIME and lane is self._fast:
            self._slow.jobs.put(job)
            return
        if status == OUT_OF_TIME:
            raise ImageError(f"took longer than {self._settings.decode_seconds:g} s to decode; resize the image")
        if self._closed.is_set() or time.monotonic() > job.deadline:
            raise ImageError(TOO_LATE)
        logger.warning("an image decoder ended with status %d and was restarted", status)
        raise ImageError("damaged or unreadable (the decoder crashed)")

    def _split(self, content: bytes) -> Pixels:
        pixels, offset = [], 0
        for preprocess in self._preprocesses:
            shape = (preprocess.size, preprocess.size, 3)
            pixels.append(np.frombuffer(content, np.uint8, math.prod(shape), offset).reshape(shape))
            offset += math.prod(shape)
        return pixels


def _start_workers(options: Sequence[WorkerOptions]) -> list[DecodeWorker]:
    """Start a worker for each of the options. If one cannot start, end all of them and raise ShowtellError."""
    workers = []
    with ExitStack() as started:
        for worker_options in options:
            workers.append(worker := DecodeWorker(worker_options))
            started.callback(worker.close)
        try:
            for worker in workers:
                worker.wait_until_ready()
        except WorkerEnded as ended:
            raise ShowtellError(f"cannot start the image decoders: {ended}; its own error is printed above") from None
        started.pop_all()
    return workers


def _environment() -> dict[str, str]:
    """Return the environment of a worker."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),  # import from the same folders as the server
        "OPENBLAS_NUM_THREADS": "1",  # NumPy would start a thread per core
        "PILLOW_BLOCK_SIZE": "64M",  # return the memory of large images to the system
    }
