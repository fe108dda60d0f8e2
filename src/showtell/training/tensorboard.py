"""Events for TensorBoard."""

import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event

from showtell.utils.files import with_filename


class TensorBoardWriter:
    """Writes an event file in a folder.

    The writer of tensorboardX uses a thread. A full disk stops the thread, and training would wait for it forever. This
    class writes without a thread.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._writer = EventsWriter(str(folder / "events"))

    def __enter__(self) -> "TensorBoardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:  # otherwise an error of closing could hide it
            with with_filename(self._folder):
                self._writer.close()

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Add a number."""
        self._add(summary.scalar(name, value), step)

    def add_text(self, name: str, text: str, step: int) -> None:
        """Add a text in Markdown."""
        self._add(summary.text(name, text), step)

    def add_image(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Add an image (H, W, 3) uint8."""
        self._add(summary.image(name, pixels, dataformats="HWC"), step)

    def _add(self, value: Any, step: int) -> None:
        with with_filename(self._folder):
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=value))
            self._writer.flush()
