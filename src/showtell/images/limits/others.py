"""Limits for PNG, GIF, BMP and WebP files."""

import os
import struct
from typing import BinaryIO

from showtell.images.limits.cost import MEGABYTE, require_at_most

MAX_PNG_CHUNKS = 10_000
MIN_PNG_CHUNK_BYTES = 256  # average size of the chunks of a file with more than MAX_PNG_CHUNKS
MAX_COMPRESSED_PNG_TEXTS = 500  # each may unpack to 1 MB
MAX_GIF_BLOCKS = 100_000
# Run-length encoded BMP files have a decoder that is written in Python.
MAX_RLE_BYTES = 2 * MEGABYTE
MAX_RLE_PIXELS = 10_000_000
WEBP_BYTES_PER_PIXEL = 12  # measured, besides the decoded pixels


def check_png(file: BinaryIO) -> int:
    """Limit the number of chunks."""
    max_chunks = max(MAX_PNG_CHUNKS, _size(file) // MIN_PNG_CHUNK_BYTES)
    compressed = chunks = 0
    file.seek(8)
    while len(head := file.read(8)) == 8 and (name := head[4:]) != b"IEND":
        chunks += 1
        compressed += name in (b"zTXt", b"iTXt", b"iCCP")
        require_at_most(max_chunks, chunks, "PNG chunks")
        require_at_most(MAX_COMPRESSED_PNG_TEXTS, compressed, "compressed PNG texts")
        file.seek(int.from_bytes(head[:4]) + 4, os.SEEK_CUR)
    return 0


def check_gif(file: BinaryIO) -> int:
    """Limit the number of blocks before the first frame."""
    file.seek(10)
    flags = _byte(file)
    file.seek(13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
    blocks = 0
    while (kind := file.read(1)) not in (b"", b";", b","):
        blocks += 1
        if kind == b"!":
            file.seek(1, os.SEEK_CUR)
            while size := _byte(file):
                blocks += 1
                file.seek(size, os.SEEK_CUR)
                require_at_most(MAX_GIF_BLOCKS, blocks, "GIF blocks before the image")
        require_at_most(MAX_GIF_BLOCKS, blocks, "GIF blocks before the image")
    return 0


def check_bmp(file: BinaryIO) -> int:
    """Limit the size of run-length encoded files."""
    file.seek(14)
    header_size, width, height, _, _, compression = struct.unpack("<IiiHHI", file.read(20))
    if header_size == 12 or compression not in (1, 2):
        return 0
    require_at_most(MAX_RLE_BYTES, _size(file), "bytes of run-length encoded BMP")
    require_at_most(MAX_RLE_PIXELS, abs(width * height), "pixels of run-length encoded BMP")
    return 0


def check_webp(file: BinaryIO) -> int:
    """Return the memory of the canvas, which is allocated when the file is opened."""
    file.seek(12)
    head = file.read(18)
    if head[:4] == b"VP8X":
        width, height = (int.from_bytes(head[start : start + 3], "little") + 1 for start in (12, 15))
    elif head[:4] == b"VP8L":
        bits = int.from_bytes(head[9:13], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (int.from_bytes(head[start : start + 2], "little") & 0x3FFF for start in (14, 16))
    return width * height * WEBP_BYTES_PER_PIXEL


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _byte(file: BinaryIO) -> int:
    """Return the next byte, or 0 at the end of the file."""
    return int.from_bytes(file.read(1))
