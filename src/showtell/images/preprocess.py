"""Preprocessing: from an image file to the input of an encoder."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from showtell.errors import ConfigurationError, ImageError
from showtell.images.decoding import decode
from showtell.images.sources import ImageSource
from showtell.utils.threads import parallel_map

MAX_SIZE = 1024
# Maximum number of decoded images that wait per thread: enough to keep the encoder busy without using much memory.
DECODED_AHEAD = 8

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocess:
    """The preprocessing of images for an encoder. Feature files, runs and bundles record it.

    Attributes:
        size: height and width of the result in pixels.
        resize: "squash" scales both sides to `size`; "crop" keeps the aspect ratio and crops the centre.
        interpolation: "bilinear", "bicubic" or "lanczos", each with antialiasing, as Pillow implements them.

    Raises:
        ConfigurationError: if a value is out of range.

    Examples:
        >>> Preprocess(size=8)(Image.new("RGB", (60, 40))).shape
        (8, 8, 3)
    """

    size: int = 224
    resize: Literal["squash", "crop"] = "squash"
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bicubic"

    def __post_init__(self) -> None:
        known = self.resize in ("squash", "crop") and self.interpolation in _FILTERS
        if not (known and 1 <= self.size <= MAX_SIZE):
            raise ConfigurationError(
                f"invalid preprocessing: {self}. size must be 1 to {MAX_SIZE}, resize squash or crop, and "
                f"interpolation {', '.join(_FILTERS)}"
            )

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Return the pixels (size, size, 3) uint8 of an RGB image."""
        box = None
        if self.resize == "crop":
            side = min(image.size)
            left, top = (image.width - side) / 2, (image.height - side) / 2
            box = (left, top, left + side, top + side)
        return np.asarray(image.resize((self.size, self.size), _FILTERS[self.interpolation], box=box))

    def load(self, source: ImageSource) -> np.ndarray:
        """Decode an image to pixels (size, size, 3) uint8. Raises ImageError."""
        return self(decode(source, at_least=self.size))

    def load_all(self, sources: Iterable[ImageSource]) -> Iterator["np.ndarray | ImageError"]:
        """Decode images in background threads, and yield them in order. Yield an ImageError for an unreadable image."""

        def load(source: ImageSource) -> np.ndarray | ImageError:
            try:
                return self.load(source)
            except ImageError as error:
                return error

        return parallel_map(load, sources, DECODED_AHEAD)
