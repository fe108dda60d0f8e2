"""The memory of WebP files."""

from typing import BinaryIO

BYTES_PER_PIXEL = 12  # measured, besides the decoded pixels


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
    return width * height * BYTES_PER_PIXEL
