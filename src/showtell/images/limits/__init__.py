"""Limits on the cost of decoding an image file.

A small file can keep a decoder busy for minutes or fill the memory. Examples are thousands of empty scans in a JPEG,
millions of chunks in a PNG, and one strip per row in a TIFF. Each `check_` function reads the headers of a file without
decoding it. It returns the bytes of memory that the decoder needs in addition to the decoded pixels.

Raises:
    CostError: if decoding would take too long.
    struct.error: if the headers are incomplete.
"""

from showtell.images.limits.bmp import check_bmp
from showtell.images.limits.cost import CostError, check_memory, file_size
from showtell.images.limits.gif import check_gif
from showtell.images.limits.heif import check_heif
from showtell.images.limits.jpeg import MAX_EXIF_BYTES, check_jpeg
from showtell.images.limits.png import check_png
from showtell.images.limits.tiff import check_strips, check_tiff
from showtell.images.limits.webp import check_webp

__all__ = [
    "MAX_EXIF_BYTES",
    "CostError",
    "check_bmp",
    "check_gif",
    "check_heif",
    "check_jpeg",
    "check_memory",
    "check_png",
    "check_strips",
    "check_tiff",
    "check_webp",
    "file_size",
]
