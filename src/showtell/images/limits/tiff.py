"""Limits for TIFF files (TIFF 6.0, BigTIFF) and for EXIF blocks, which have the same layout."""

import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, BinaryIO

from showtell.images.limits.cost import require_at_most

MAX_TAGS = 4096
MAX_VALUES = 1_000_000  # of all tags; text and bytes do not count
MAX_FRACTIONS = 1000  # of all tags; each becomes a Python object of 300 bytes
MAX_STRIPS = 65_536
MAX_READS = 500_000  # of parts of strips
MAX_PIXEL_BYTES, MAX_PIXELS_PER_BYTE = 8, 8  # 16 bits of four channels, and 1 bit
FAX_BYTES_PER_COLUMN = 16  # of libtiff's decoder for CCITT compression

TIFF_HEADER = re.compile(rb"II[*+]\0|MM\0[*+]")
_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _SAMPLES_PER_PIXEL = 256, 257, 258, 277
_STRIP_OFFSETS, _ROWS_PER_STRIP, _ORIENTATION = 273, 278, 274
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS = 322, 323, 324
_SUB_DIRECTORIES = (34665, 34853, 40965)  # EXIF, GPS, interoperability
# Types: bytes, text and undefined; fractions.
_BYTES, _FRACTIONS = frozenset({1, 2, 7}), frozenset({5, 10})
_MAX_OFFSET = 1 << 62
# Type -> code of struct.
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}


def check_tiff(file: BinaryIO) -> int:
    """Limit the tags and strips of the first image, and return the memory for a strip and a rotated copy."""
    tags = TiffTags(file)
    strips = max(tags.count(_STRIP_OFFSETS), tags.count(_TILE_OFFSETS))
    require_at_most(MAX_STRIPS, strips, "TIFF strips")
    width, height = tags.value(_WIDTH), tags.value(_HEIGHT)
    strip_pixels = width * min(height, tags.value(_ROWS_PER_STRIP, height))
    tile_pixels = tags.value(_TILE_WIDTH) * tags.value(_TILE_HEIGHT, height)
    bits = max(tags.value(_BITS_PER_SAMPLE, 1) * tags.value(_SAMPLES_PER_PIXEL, 1), 1)
    is_rotated = tags.value(_ORIENTATION, 1) != 1
    buffer_bytes = max(strip_pixels, tile_pixels) * bits // 8
    return buffer_bytes + FAX_BYTES_PER_COLUMN * width + 4 * width * height * is_rotated


def check_strips(tiles: Sequence[Any]) -> None:
    """Limit the reads of an opened TIFF file. The length of each read is the gap between the offsets of two strips.

    Args:
        tiles: the attribute `tile` of a Pillow image: codec, extents, offset and arguments of each strip.
    """
    reads = 0
    for strip, following in pairwise(sorted(tiles, key=lambda tile: tile[2])):
        left, top, right, bottom = strip[1]
        gap = following[2] - strip[2]
        pixels = (right - left) * (bottom - top)
        reads += max(0, MAX_PIXEL_BYTES * pixels // gap - MAX_PIXELS_PER_BYTE * MAX_PIXEL_BYTES) if gap else 0
    require_at_most(MAX_READS, reads, "reads of overlapping TIFF strips")


class TiffTags:
    """The tags of the first image of a TIFF file, or of an EXIF block that starts at an offset in a file.

    Raises CostError if there are too many tags or values, including those of EXIF and GPS sub-directories.
    """

    def __init__(self, file: BinaryIO, start: int = 0):
        self._file = file
        self._start = start
        file.seek(start)
        head = file.read(16)
        order = "<" if head.startswith(b"I") else ">"
        is_big = 43 in head[2:4]
        self._order = order
        self._pointer = order + ("Q" if is_big else "I")
        self._count = struct.Struct(order + ("Q" if is_big else "H"))
        self._entry = struct.Struct(order + ("HHQ8s" if is_big else "HHI4s"))
        self._values = self._fractions = 0
        self._tags = self._read_tags(*struct.unpack_from(self._pointer, head, 8 if is_big else 4))
        for pointer in _SUB_DIRECTORIES:
            for offset in self._values_of(pointer):
                with suppress(struct.error):  # decoders ignore a sub-directory outside the file
                    self._read_tags(offset)

    def _read_tags(self, offset: int) -> dict[int, list[tuple[int, int, bytes]]]:
        """Return the type, the number of values and the data of all fields of each tag.

        In a valid file, each tag has one field. If a tag has several, decoders differ in which one they use.
        """
        self._seek(offset)
        (count,) = self._count.unpack(self._file.read(self._count.size))
        require_at_most(MAX_TAGS, count, "TIFF tags")
        content = self._file.read(count * self._entry.size)
        tags: dict[int, list[tuple[int, int, bytes]]] = {}
        for number in range(len(content) // self._entry.size):
            tag, type_, values, data = self._entry.unpack_from(content, number * self._entry.size)
            self._fractions += values * (type_ in _FRACTIONS)
            self._values += values * (type_ not in _BYTES)
            require_at_most(MAX_FRACTIONS, self._fractions, "fractions in TIFF tags")
            require_at_most(MAX_VALUES, self._values, "values in TIFF tags")
            tags.setdefault(tag, []).append((type_, values, data))
        return tags

    def _seek(self, offset: int) -> None:
        self._file.seek(min(self._start + offset, _MAX_OFFSET))

    def count(self, tag: int) -> int:
        """Return the number of values of a tag."""
        return max((values for _, values, _ in self._tags.get(tag, ())), default=0)

    def value(self, tag: int, default: int = 0) -> int:
        """Return the first value of a tag, or a default if it is not an integer. Negative values become positive."""
        return max(self._values_of(tag), default=default)

    def _values_of(self, tag: int) -> Iterator[int]:
        """Yield the first value of each field of a tag that is an integer."""
        for type_, count, data in self._tags.get(tag, ()):
            if type_ not in _INTEGERS:
                continue
            value = struct.Struct(self._order + _INTEGERS[type_])
            if count * value.size > len(data):
                self._seek(*struct.unpack(self._pointer, data))
                data = self._file.read(value.size)
            if len(data) >= value.size:
                yield abs(value.unpack_from(data)[0])
