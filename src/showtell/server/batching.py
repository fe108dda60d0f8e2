"""Batches of images from different requests."""

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from threading import Condition, Thread
from types import TracebackType

from showtell.errors import ImageError
from showtell.inference.caption import CaptionResult
from showtell.inference.captioner import Captioner
from showtell.inference.search_options import SearchOptions
from showtell.server.decode_pool import DecodePool, Pixels
from showtell.utils.threads import THREADS

# Larger batches are hardly faster, and delay the first image of each batch.
BATCH_SIZE = 8


@dataclass(frozen=True)
class _Job:
    content: bytes
    options: SearchOptions
    future: "Future[CaptionResult]" = field(default_factory=Future)
    pixels: Pixels = field(default_factory=list)


class Batcher:
    """Decode images in worker processes, and caption them in threads, in batches with equal search options.

    The oldest waiting image determines the options of the next batch, so every image is captioned eventually. This is a
    context manager: on exit, it cancels all waiting images, and stops the processes and threads.

    Args:
        captioner: the captioner. Its models must be open.
        decoders: the worker processes, not started yet. They decode for the captioner's `preprocesses`.
        on_batch: called with the size of each batch, in the thread that captions it.
    """

    def __init__(
        self,
        captioner: Captioner,
        decoders: DecodePool,
        on_batch: Callable[[int], None] = lambda size: None,
    ):
        self._captioner = captioner
        self._decoders = decoders
        self._on_batch = on_batch
        self._waiting: deque[_Job] = deque()
        self._changed = Condition()
        self._is_closed = False
        self._threads = [Thread(target=self._run, name=f"captioning-{number}") for number in range(THREADS)]

    def __enter__(self) -> "Batcher":
        self._decoders.__enter__()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._decoders.__exit__(type_, error, traceback)
        for thread in self._threads:
            thread.join()
        for job in self._waiting:
            job.future.cancel()

    def submit(self, content: bytes, options: SearchOptions, deadline: float = math.inf) -> "Future[CaptionResult]":
        """Queue the content of an image file. A future that is cancelled before its batch starts is skipped.

        Args:
            content: the image file.
            options: the search options.
            deadline: time of the monotonic clock, in seconds, after which the result is not needed.
        """
        job = _Job(content, options)
        decoded = self._decoders.submit(content, deadline)
        decoded.add_done_callback(partial(self._queue, job))
        job.future.add_done_callback(lambda future: decoded.cancel() if future.cancelled() else None)
        return job.future

    def _queue(self, job: _Job, decoded: "Future[Pixels]") -> None:
        """Queue a decoded image for its batch."""
        if decoded.cancelled():
            job.future.cancel()
        elif (error := decoded.exception()) is None:
            job.pixels.extend(decoded.result())
            with self._changed:
                self._waiting.append(job)
                self._changed.notify()
        elif job.future.set_running_or_notify_cancel():
            if isinstance(error, ImageError):
                job.future.set_result(CaptionResult(job.content, error=error))
            else:
                job.future.set_exception(error)

    def _run(self) -> None:
        while jobs := self._next_batch():
            running = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if running:
                self._on_batch(len(running))
                self._caption(running)

    def _next_batch(self) -> list[_Job]:
        """Wait for images; return the oldest one and others with equal options. Return [] on exit."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if self._is_closed:
                return []
            batch: list[_Job] = []
            others: deque[_Job] = deque()
            for job in self._waiting:
                fits = len(batch) < BATCH_SIZE and (not batch or job.options == batch[0].options)
                (batch if fits else others).append(job)
            self._waiting = others
            return batch

    def _caption(self, jobs: list[_Job]) -> None:
        try:
            results = self._captioner.caption_decoded(
                [job.content for job in jobs], [job.pixels for job in jobs], jobs[0].options
            )
        except Exception as error:  # passed to the waiting requests; this thread continues
            for job in jobs:
                job.future.set_exception(error)
            return
        for job, result in zip(jobs, results, strict=True):
            job.future.set_result(result)
