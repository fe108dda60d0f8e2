"""BMP bombs: run lengths, which Pillow decodes in Python, and vast headers."""

import struct

from image_bombs.registry import SIDE, bomb, fill


def _bmp(width: int, height: int, bits: int, compression: int, content: bytes) -> bytes:
    colours = 1 << bits if bits <= 8 else 0
    palette = b"".join(bytes([number, 0, 255 - number, 0]) for number in range(colours))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(content), 1, 1, colours, 0)
    offset = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(content), 0, 0, offset) + header + palette + content


@bomb
def bmp_runs_outside_the_row() -> bytes:
    """Runs of pixels that do not fit into the row, which have no effect."""
    return _bmp(8, 8, 8, 1, b"\x08\0" + fill(b"\1\0"))


@bomb
def bmp_empty_runs() -> bytes:
    """Ends of rows, which Pillow fills pixel by pixel: 13,000 rows of one pixel and an end."""
    return _bmp(SIDE, SIDE, 8, 1, b"\1\1\0\0" * SIDE)


@bomb
def bmp_vast_runs_of_4_bits() -> bytes:
    """13,000 x 13,000 pixels in runs, in 1.3 MB."""
    row = b"\xff\x12" * (SIDE // 255) + bytes([SIDE % 255, 1]) + b"\0\0"
    return _bmp(SIDE, SIDE, 4, 2, row * SIDE)


@bomb
def bmp_large_empty_runs() -> bytes:
    """10,000 rows of one pixel and an end, at 10,000 pixels per row."""
    return _bmp(10_000, 10_000, 8, 1, b"\1\1\0\0" * 10_000)


@bomb
def bmp_large_runs_of_4_bits() -> bytes:
    """10,000 x 10,000 pixels in runs, in 0.8 MB."""
    row = b"\xff\x12" * 39 + b"\x37\x12\0\0"
    return _bmp(10_000, 10_000, 4, 2, row * 10_000)


@bomb
def bmp_vast_1_bit() -> bytes:
    """13,000 x 13,000 pixels of 1 bit."""
    return _bmp(SIDE, SIDE, 1, 0, bytes(SIDE * ((SIDE + 31) // 32 * 4)))


@bomb
def bmp_vast_without_data() -> bytes:
    """13,000 x 13,000 pixels in the header, and no pixels."""
    return _bmp(SIDE, SIDE, 32, 0, b"")
