"""The error and the limits that the checks of all formats share."""

import os
from typing import BinaryIO

MEGABYTE = 1_000_000
MAX_MEMORY = 450 * MEGABYTE
# Files larger than 56 MB may use more memory, in proportion to their size, such as scanned documents.
MAX_MEMORY_PER_FILE_BYTE = 8


class CostError(Exception):
    """Decoding an image file would take too much time or memory."""


def check_memory(needed: int, file_bytes: int) -> None:
    """Raise CostError if decoding a file needs too many bytes of memory."""
    limit = max(MAX_MEMORY, MAX_MEMORY_PER_FILE_BYTE * file_bytes)
    if needed > limit:
        raise CostError(f"{needed // MEGABYTE:,} MB of memory exceed the limit of {limit // MEGABYTE:,} MB")


def require_at_most(limit: int, value: int, unit: str) -> None:
    """Raise CostError if a value exceeds a limit."""
    if value > limit:
        raise CostError(f"more than {limit:,} {unit}")


def file_size(file: BinaryIO) -> int:
    """Return the size of an open file in bytes, and move to its end."""
    return file.seek(0, os.SEEK_END)
