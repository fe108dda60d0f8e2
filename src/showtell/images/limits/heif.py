"""Limits for AVIF and HEIC files (ISO/IEC 14496-12 and 23008-12)."""

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from showtell.images.limits.cost import MEGABYTE, require_at_most
from showtell.images.limits.tiff import TIFF_HEADER, TiffTags

MAX_BOXES = 10_000
MAX_INDEX_BYTES = 2 * MEGABYTE  # of the boxes `meta` and `moov`, which describe the images and the frames
MAX_ITEMS = 2000  # an image of 48 megapixels consists of about 200 tiles
MAX_EXTENTS = 20_000
MAX_SHARED_BYTES = 4  # sum of the sizes of all items, relative to the size of the file
MAX_EXIF_BLOCKS = 20

# Measured, besides the decoded pixels.
AV1_BYTES_PER_PIXEL = 8
HEVC_BYTES_PER_PIXEL = 5

_SIZE = re.compile(rb"ispe\0{4}(.{8})", re.DOTALL)


def check_heif(file: BinaryIO) -> int:
    """Limit the items and EXIF tags, and return the memory for the largest image."""
    file.seek(0)
    content = file.read()
    needed = 0
    for kind, start, end in _boxes(content, 0, len(content)):
        if kind in (b"meta", b"moov"):
            require_at_most(MAX_INDEX_BYTES, end - start, "bytes of item descriptions")
            is_av1 = b"av01" in content[start:end]
            sizes = (struct.unpack(">II", match[1]) for match in _SIZE.finditer(content, start, end))
            pixels = max((width * height for width, height in sizes), default=0)
            needed = max(needed, pixels * (AV1_BYTES_PER_PIXEL if is_av1 else HEVC_BYTES_PER_PIXEL))
        if kind == b"meta":
            _check_items(content, start + 4, end)
    for number, match in enumerate(TIFF_HEADER.finditer(content)):
        require_at_most(MAX_EXIF_BLOCKS, number, "EXIF blocks")
        with suppress(struct.error):
            TiffTags(file, match.start())
    return needed


def _check_items(content: bytes, start: int, end: int) -> None:
    require_at_most(MAX_ITEMS, content.count(b"infe", start, end), "image items")
    require_at_most(MAX_BOXES, content.count(b"ispe", start, end), "image sizes")
    for kind, box_start, box_end in _boxes(content, start, end):
        if kind == b"iloc":
            lengths = 0
            for number, length in enumerate(_extents(content[box_start:box_end])):
                require_at_most(MAX_EXTENTS, number, "extents of image items")
                lengths += length
            require_at_most(MAX_SHARED_BYTES * len(content), lengths, "bytes of image items")


def _boxes(content: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, and the start and end of the content, of each box."""
    number = 0
    while start + 8 <= end:
        require_at_most(MAX_BOXES, number, "boxes")
        number += 1
        size, kind = struct.unpack_from(">I4s", content, start)
        head = 8
        if size == 1 and start + 16 <= end:
            (size,) = struct.unpack_from(">Q", content, start + 8)
            head = 16
        box_end = end if size == 0 else min(end, start + max(size, head))
        yield kind, start + head, box_end
        start = box_end


def _extents(box: bytes) -> Iterator[int]:
    """Yield the length of each extent of an item location box."""
    position = 0

    def read(size: int) -> int:
        nonlocal position
        position += size
        if position > len(box):
            raise struct.error
        return int.from_bytes(box[position - size : position])

    version = read(4) >> 24
    sizes = read(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = 4 if version == 2 else 2
    for _ in range(read(wide)):
        read(wide + (2 if version else 0) + 2 + base_size)
        for _ in range(read(2)):
            read((index_size if version else 0) + offset_size)
            yield read(length_size)
