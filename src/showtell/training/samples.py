"""Sample captions of random validation images, to monitor training."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from showtell.drawing import Fonts, contact_sheet
from showtell.errors import ImageError
from showtell.images import decode
from showtell.training.tensorboard import TensorBoardWriter
from showtell.utils.files import atomic_write

SAMPLE_IMAGES = 32
LOGGED_CAPTIONS = 4

logger = logging.getLogger(__name__)


class SampleWriter:
    """Writes sample captions as a text file and, if the images are available, as a contact sheet.

    Args:
        folder: the folder to write to.
        images: the folder of the validation images; None if unknown.
        tensorboard: the writer that also gets the samples.
    """

    def __init__(self, folder: Path, images: Path | None, tensorboard: TensorBoardWriter):
        self._folder = folder
        self._images = images
        self._tensorboard = tensorboard
        self._fonts = Fonts()
        self._warned = False

    def write(self, step: int, names: Sequence[str], captions: Sequence[str]) -> None:
        """Write the captions of the named images, and log the first ones."""
        lines = [f"{name}\t{caption}" for name, caption in zip(names, captions, strict=True)]
        with atomic_write(self._folder / f"step-{step:09d}.txt") as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._tensorboard.add_text("samples", "\n\n".join(lines), step)
        if self._images is not None:
            self._write_sheet(self._images, step, names, captions)
        for name, caption in list(zip(names, captions, strict=True))[:LOGGED_CAPTIONS]:
            logger.info("  %s: %s", name, caption)

    def _write_sheet(self, folder: Path, step: int, names: Sequence[str], captions: Sequence[str]) -> None:
        images, texts = [], []
        for name, caption in zip(names, captions, strict=True):
            try:
                images.append(decode(folder / name, at_least=320))
                texts.append(caption)
            except ImageError:  # a missing image must not stop the training
                continue
        if not images:
            return
        sheet = contact_sheet(images, texts, self._fonts)
        with atomic_write(self._folder / f"step-{step:09d}.jpg") as temporary:
            sheet.save(temporary, quality=85)
        self._tensorboard.add_image("samples", np.asarray(sheet), step)
        self._warn_once_about_fonts()

    def _warn_once_about_fonts(self) -> None:
        if not self._warned:
            for note in self._fonts.notes:
                logger.warning("%s; the text files contain the complete captions", note)
                self._warned = True
