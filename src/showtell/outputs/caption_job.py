"""Captioning many images into several outputs."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from showtell.errors import ShowtellError, describe_error
from showtell.inference.caption import CaptionResult
from showtell.inference.search_options import SearchOptions
from showtell.outputs.output import Output, ResumableOutput
from showtell.outputs.records import Record, make_record
from showtell.utils.signals import take_until_set

if TYPE_CHECKING:
    from showtell.inference.captioner import Captioner


class CaptionJob:
    """Captions images, and writes the results to outputs.

    An image is skipped if all resumable outputs already have its caption. If an image cannot be captioned, its record
    has an error, and the job continues.

    Args:
        captioner: the captioner.
        images: paths of the images.
        outputs: destinations of the captions.
        options: decoding options; by default those of the captioner.
        min_confidence: captions with a lower confidence are marked as needing review.

    Attributes:
        pending: the images that are not skipped.
        skipped: number of images that are skipped.
        done: number of images captioned so far.
        failed: number of images that could not be captioned so far.
        needs_review: number of captions so far that need review.

    Examples:
        >>> from showtell import Captioner
        >>> from showtell.outputs import CaptionJob
        >>> job = CaptionJob(Captioner.load(), ["examples/000000129648.jpg", "missing.jpg"])
        >>> [record.get("caption", "failed") for record in job.run()]
        ['a skateboarder is doing a trick on a ramp', 'failed']
        >>> job.done, job.failed
        (1, 1)
    """

    def __init__(
        self,
        captioner: "Captioner",
        images: Sequence[str | Path],
        outputs: Iterable[Output] = (),
        options: SearchOptions | None = None,
        min_confidence: float | None = None,
    ):
        # Per-image outputs come first, so that the other outputs can record their errors.
        self._outputs = sorted(outputs, key=lambda output: not output.is_per_image)
        self._captioner = captioner
        self._options = options or captioner.search_options
        self._min_confidence = min_confidence
        resumable = [output for output in self._outputs if isinstance(output, ResumableOutput)]
        self.pending = [
            path for path in images if not resumable or not all(output.has(str(path)) for output in resumable)
        ]
        self.skipped = len(images) - len(self.pending)
        self.done = self.failed = self.needs_review = 0

    @property
    def finished(self) -> int:
        """Number of images captioned or failed so far."""
        return self.done + self.failed

    def run(self, stop: threading.Event | None = None, on_stop: Callable[[], None] = lambda: None) -> Iterator[Record]:
        """Caption the pending images, and yield the record of each one after it has been written.

        Args:
            stop: if set, images in progress are completed, and no others are started.
            on_stop: called when the job notices that `stop` is set.

        Raises:
            OSError: if an output other than a per-image one cannot be written.
        """
        images = take_until_set(stop or threading.Event(), self.pending, on_stop)
        for result in self._captioner.caption(images, self._options):
            yield self._write(result)
        for output in self._outputs:
            output.close()

    def _write(self, result: CaptionResult) -> Record:
        record = make_record(result, self._min_confidence, with_alternatives=self._options.n_best > 1)
        for output in self._outputs:
            try:
                output.add(record, result.captions)
            except (ShowtellError, OSError) as error:
                if not output.is_per_image:
                    raise
                record = {"path": record["path"], "error": describe_error(error)}
        self._count(record)
        return record

    def _count(self, record: Record) -> None:
        if "error" in record:
            self.failed += 1
        else:
            self.done += 1
            self.needs_review += record.get("needs_review", False)
