"""Batches of images from different requests."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from types import TracebackType

from showtell.errors import ImageError
from showtell.inference.caption import CaptionResult
from showtell.inference.captioner import Captioner
from showtell.inference.search_options import SearchOptions
from showtell.utils.threads import THREADS

# Larger batches are hardly faster, and delay the first image of each batch.
BATCH_SIZE = 8


@dataclass(frozen=True)
class _Job:
    content: bytes
    options: SearchOptions
    future: "Future[CaptionResult]" = field(default_factory=Future)


class Batcher:
    """Caption submitted images in threads, in batches with equal search options.

    The oldest waiting image determines the options of the next batch, so every image is captioned eventually. This is a
    context manager: on exit, it captions all waiting images and stops the threads.

    Args:
        captioner: the captioner. Its models must be open.
        reject_reason: returns why an image file is rejected, or None if it may be decoded.
        on_batch: called with the size of each batch, in the thread that captions it.
    """

    def __init__(
        self,
        captioner: Captioner,
        reject_reason: Callable[[bytes], str | None] = lambda content: None,
        on_batch: Callable[[int], None] = lambda size: None,
    ):
        self._captioner = captioner
        self._reject_reason = reject_reason
        self._on_batch = on_batch
        self._waiting: deque[_Job] = deque()
        self._changed = Condition()
        self._is_closed = False
        self._threads = [Thread(target=self._run, name=f"captioning-{number}") for number in range(THREADS)]

    def __enter__(self) -> "Batcher":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def submit(self, content: bytes, options: SearchOptions) -> "Future[CaptionResult]":
        """Queue the content of an image file. A future that is cancelled before its batch starts is skipped."""
        job = _Job(content, options)
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()
        return job.future

    def _run(self) -> None:
        while jobs := self._next_batch():
            running = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if running:
                self._on_batch(len(running))
                self._caption(running)

    def _next_batch(self) -> list[_Job]:
        """Wait for images; return the oldest one and others with equal options. Return [] after the last image."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            batch: list[_Job] = []
            others: deque[_Job] = deque()
            for job in self._waiting:
                fits = len(batch) < BATCH_SIZE and (not batch or job.options == batch[0].options)
                (batch if fits else others).append(job)
            self._waiting = others
            return batch

    def _caption(self, jobs: list[_Job]) -> None:
        # Everything runs in this thread, because memory allocated in many threads is not returned to the system.
        accepted = []
        for job in jobs:
            if (reason := self._reject_reason(job.content)) is None:
                accepted.append(job)
            else:
                job.future.set_result(CaptionResult(job.content, error=ImageError(reason)))
        try:
            results = self._captioner.caption_batch([job.content for job in accepted], jobs[0].options)
        except Exception as error:  # passed to the waiting requests; this thread continues
            for job in accepted:
                job.future.set_exception(error)
            return
        for job, result in zip(accepted, results, strict=True):
            job.future.set_result(result)
