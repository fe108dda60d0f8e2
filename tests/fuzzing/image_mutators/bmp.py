"""BMP: headers, palettes, bit masks and run lengths."""

import struct

import numpy as np

from image_mutators import numbers

_HEADERS = (12, 40, 52, 56, 64, 108, 124)


def mutate(content: bytes, generator: np.random.Generator) -> bytes:
    """Write a BMP file again with another header; some have run lengths, masks or no data."""
    width, height = struct.unpack_from("<ii", content, 18)
    if generator.random() < 0.7:
        width, height = (min(numbers.side(generator), (1 << 31) - 1) for _ in range(2))
    height = -height if generator.random() < 0.2 else height
    bits = numbers.choose((1, 4, 8, 8, 16, 24, 32, 0, 7), generator)
    compression = numbers.choose((0, 0, 1, 1, 2, 3, 3, 4, 6, 99), generator)
    colours = numbers.number(generator) if generator.random() < 0.2 else (1 << bits) % (1 << 9)
    size = numbers.choose(_HEADERS, generator)
    data = _data(compression, generator)
    if size == 12:
        header = struct.pack("<IHHHH", size, width % 65_536, abs(height) % 65_536, 1, bits)
    else:
        fields = (width, height, 1, bits, compression, len(data), 1, 1, colours, 0)
        header = (struct.pack("<IiiHHIIiiII", size, *fields) + _masks(generator)).ljust(size, b"\0")[:size]
    palette = generator.bytes(4 * min(colours, 70_000))
    offset = 14 + len(header) + len(palette)
    if generator.random() < 0.1:
        offset = numbers.number(generator)
    return b"BM" + struct.pack("<IHHI", numbers.number(generator), 0, 0, offset) + header + palette + data


def _masks(generator: np.random.Generator) -> bytes:
    known = ((0xFF0000, 0xFF00, 0xFF, 0), (0xFF, 0xFF00, 0xFF0000, 0xFF000000), (0xF800, 0x7E0, 0x1F, 0))
    masks = numbers.choose(known, generator) if generator.random() < 0.7 else [numbers.number(generator)] * 4
    return struct.pack("<4I", *masks)


def _data(compression: int, generator: np.random.Generator) -> bytes:
    if compression in (1, 2):
        units = (
            b"\xff\1",
            b"\1\1\0\0",
            b"\0\0",
            b"\0\2\xff\xff",
            b"\0\2\1\0",
            b"\0\3abc\0",
            b"\1\0",
            b"\0\xff" + bytes(256),
        )
        return numbers.repeat(numbers.choose(units, generator) + numbers.choose(units, generator), generator)
    return numbers.blob(generator, 3e7)
