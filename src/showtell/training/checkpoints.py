"""Checkpoints of a training run, and saving and loading of Keras models."""

import logging
from pathlib import Path
from typing import Any

import keras

from showtell.errors import ConfigurationError
from showtell.training import decoders, loss  # noqa: F401 - Keras finds the classes in a checkpoint once they are imported
from showtell.utils.files import atomic_write

MAX_CHECKPOINTS = 2

logger = logging.getLogger(__name__)


class CheckpointStore:
    """The checkpoints in a run folder: `checkpoints/step-N.keras`.

    A checkpoint holds the weights, the optimizer state and the random state. Only the latest MAX_CHECKPOINTS are kept.

    Args:
        folder: the folder of a run, or of a later phase.
    """

    def __init__(self, folder: Path):
        self.folder = folder / "checkpoints"

    def list_paths(self) -> list[Path]:
        """Return the paths of the checkpoints, latest first."""
        return sorted(self.folder.glob("step-*.keras"), reverse=True)

    def save(self, model: keras.Model, step: int) -> None:
        """Write a checkpoint, then remove the oldest ones."""
        save_model(model, self.folder / f"step-{step:09d}.keras")
        self.prune()

    def prune(self) -> None:
        """Remove all but the latest MAX_CHECKPOINTS checkpoints."""
        for path in self.list_paths()[MAX_CHECKPOINTS:]:
            path.unlink()

    def load_latest_checkpoint(self) -> Any:
        """Load the latest checkpoint that is intact, and log a warning for each damaged one.

        Returns:
            The Keras model; None if there are no checkpoints.

        Raises:
            ConfigurationError: if all checkpoints are damaged.
        """
        first_error = None
        for path in self.list_paths():
            try:
                return load_model(path)
            except ConfigurationError as error:
                first_error = first_error or error
                logger.warning("%s; trying the previous checkpoint", error)
        if first_error:
            raise first_error
        return None


def save_model(model: keras.Model, path: Path) -> None:
    """Write a model with its optimizer and random state, atomically."""
    with atomic_write(path) as temporary:
        model.save(temporary)


def load_model(path: Path) -> Any:
    """Load a model written by `save_model`. Raises ConfigurationError if the file is damaged."""
    try:
        return keras.models.load_model(path)
    except Exception as error:  # zipfile, h5py and Keras raise their own exceptions
        reason = " ".join(str(error).split())[:300]
        raise ConfigurationError(f"{path}: cannot load the checkpoint: {reason}") from None
