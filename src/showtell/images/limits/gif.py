"""Limits for GIF files."""

import os
from typing import BinaryIO

from showtell.images.limits.cost import require_at_most

MAX_BLOCKS = 100_000


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
                require_at_most(MAX_BLOCKS, blocks, "GIF blocks before the image")
        require_at_most(MAX_BLOCKS, blocks, "GIF blocks before the image")
    return 0


def _byte(file: BinaryIO) -> int:
    """Return the next byte, or 0 at the end of the file."""
    return int.from_bytes(file.read(1))
