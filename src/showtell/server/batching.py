"""Images of many requests, captioned together."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread

from showtell.errors import ImageError
from showtell.inference.captioner import Captioner, CaptionResult
from showtell.inference.search import SearchOptions
from showtell.utils.threads import THREADS

# Images that are captioned at a time: more gain little, and the first of them would wait for the last.
BATCH_SIZE = 8


@dataclass(frozen=True)
class _Job:
    content: bytes
    options: SearchOptions
    future: "Future[CaptionResult]" = field(default_factory=Future)


class Batcher:
    """Threads that caption what is waiting, as many images at a time as wait for the same kind of search.

    The oldest image decides which search is next, so that none waits for ever.

    Args:
        captioner: what captions; it must have been used before, so that its models are loaded.
        fault: tells of the bytes of a file why it is not to be decoded, or None.
        told: called with the number of images of each batch, in the thread that is about to caption it.
    """

    def __init__(
        self,
        captioner: Captioner,
        fault: Callable[[bytes], str | None] = lambda content: None,
        told: Callable[[int], None] = lambda size: None,
    ):
        self._captioner = captioner
        self._fault = fault
        self._told = told
        self._waiting: deque[_Job] = deque()
        self._changed = Condition()
        self._closed = False
        self._threads = [Thread(target=self._work, name=f"captioning-{number}") for number in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def submit(self, content: bytes, options: SearchOptions) -> "Future[CaptionResult]":
        """Ask for captions of the bytes of an image file. A future that is cancelled in time costs nothing."""
        job = _Job(content, options)
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Caption what is still waiting, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while jobs := self._next_jobs():
            running = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if running:
                self._told(len(running))
                self._caption(running)

    def _next_jobs(self) -> list[_Job]:
        """Wait for images; return those that go with the oldest, at most a batch, or none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            alike: list[_Job] = []
            others: deque[_Job] = deque()
            for job in self._waiting:
                fits = len(alike) < BATCH_SIZE and (not alike or job.options == alike[0].options)
                (alike if fits else others).append(job)
            self._waiting = others
            return alike

    def _caption(self, jobs: list[_Job]) -> None:
        # All in this thread: memory that many threads allocate in turn is not given back.
        taken = []
        for job in jobs:
            if (problem := self._fault(job.content)) is None:
                taken.append(job)
            else:
                job.future.set_result(CaptionResult(job.content, error=ImageError(problem)))
        try:
            results = self._captioner.caption_batch([job.content for job in taken], jobs[0].options)
        except Exception as error:  # whoever waits for it must hear of it, and this thread goes on
            for job in taken:
                job.future.set_exception(error)
            return
        for job, result in zip(taken, results, strict=True):
            job.future.set_result(result)
