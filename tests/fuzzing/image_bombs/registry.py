"""The collection of hostile images, and parts that several formats use."""

import struct
from collections.abc import Callable

from image_formats import Tiff

MAX_BYTES = 32_000_000
SIDE = 13_000  # an image of this width and height is just below the pixel limit
LARGE = 10_500  # an image of this width and height with four bytes per pixel takes 440 MB
BOMBS: dict[str, Callable[[], bytes]] = {}
SLOW: set[str] = set()  # names of bombs that are decoded in full, which takes one to three seconds each


def bomb(make: Callable[[], bytes]) -> Callable[[], bytes]:
    """Add a function that makes an image file to the collection."""
    BOMBS[make.__name__.replace("_", "-")] = make
    return make


def slow_bomb(make: Callable[[], bytes]) -> Callable[[], bytes]:
    """Add a function to the collection whose image is just below the limits."""
    SLOW.add(make.__name__.replace("_", "-"))
    return bomb(make)


def fill(unit: bytes, size: int = 31_000_000) -> bytes:
    """Repeat a part of a file up to a size."""
    return unit * (size // len(unit))


def exif_fractions(size: int) -> bytes:
    """Return EXIF whose orientation consists of `size` / 8 fractions."""
    exif = Tiff()
    values = exif.add(fill(struct.pack("<2I", 3, 7), size))
    return exif.file(exif.add_directory([exif.pointer(0x0112, 5, size // 8, values)]))
