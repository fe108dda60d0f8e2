"""Limits for BMP files."""

import struct
from typing import BinaryIO

from showtell.images.limits.cost import MEGABYTE, file_size, require_at_most

# Run-length encoded files have a decoder that is written in Python.
MAX_RLE_BYTES = 2 * MEGABYTE
MAX_RLE_PIXELS = 10_000_000
OS2_HEADER_BYTES = 12  # the header of OS/2 has no compression


def check_bmp(file: BinaryIO) -> int:
    """Limit the size of run-length encoded files."""
    file.seek(14)
    (header_bytes,) = struct.unpack("<I", file.read(4))
    if header_bytes == OS2_HEADER_BYTES:
        return 0
    width, height, _, _, compression = struct.unpack("<iiHHI", file.read(16))
    if compression in (1, 2):
        require_at_most(MAX_RLE_BYTES, file_size(file), "bytes of run-length encoded BMP")
        require_at_most(MAX_RLE_PIXELS, abs(width * height), "pixels of run-length encoded BMP")
    return 0
