"""Limits for PNG files."""

import os
from typing import BinaryIO

from showtell.images.limits.cost import file_size, require_at_most

MAX_CHUNKS = 10_000
MIN_CHUNK_BYTES = 256  # average size of the chunks of a file with more than MAX_CHUNKS
MAX_COMPRESSED_TEXTS = 500  # each may unpack to 1 MB


def check_png(file: BinaryIO) -> int:
    """Limit the number of chunks."""
    max_chunks = max(MAX_CHUNKS, file_size(file) // MIN_CHUNK_BYTES)
    compressed = chunks = 0
    file.seek(8)
    while len(head := file.read(8)) == 8 and (name := head[4:]) != b"IEND":
        chunks += 1
        compressed += name in (b"zTXt", b"iTXt", b"iCCP")
        require_at_most(max_chunks, chunks, "PNG chunks")
        require_at_most(MAX_COMPRESSED_TEXTS, compressed, "compressed PNG texts")
        file.seek(int.from_bytes(head[:4]) + 4, os.SEEK_CUR)
    return 0
