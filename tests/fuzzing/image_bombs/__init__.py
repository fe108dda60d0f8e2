"""Image files of at most 32 MB that cost a decoder minutes or gigabytes. `BOMBS` holds a maker for each name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from runner import Case

from image_bombs import bmp, gif, heif, jpeg, png, programs, tiff, webp
from image_bombs.registry import BOMBS, MAX_BYTES, SLOW
from showtell.images import Preprocess

__all__ = ["BOMBS", "SLOW", "bmp", "bomb_case", "gif", "heif", "jpeg", "png", "programs", "tiff", "webp"]


def bomb_case(folder: Path) -> Case:
    """Decode the bomb with the number of the case, which the runner can repeat by this number."""
    makers = list(BOMBS.values())
    preprocess = Preprocess()

    def case(generator: np.random.Generator) -> Callable[[], object]:
        _, number = generator.bit_generator.seed_seq.entropy  # type: ignore[attr-defined]
        content = makers[number % len(makers)]()
        assert len(content) <= MAX_BYTES
        return partial(preprocess.load, content)

    return case
