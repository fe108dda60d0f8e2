"""WebP: RIFF chunks, canvases and animations."""

import struct

import numpy as np
from image_formats import riff_chunk, split_chunks, webp, webp_header

from image_mutators import numbers
from image_mutators.tiff import random_exif

_KINDS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP ", b"junk", b"RIFF", b"WEBP")


def mutate(content: bytes, generator: np.random.Generator) -> bytes:
    """Change chunks of a WebP file."""
    chunks = [riff_chunk(*chunk) for chunk in split_chunks(content[12:])]
    operations = (_insert, _flood, _resize, _declare, _describe, _animate, numbers.rearrange)
    for _ in range(int(generator.integers(1, 5))):
        numbers.choose(operations, generator)(chunks, generator)
    damaged = webp(*chunks)
    if generator.random() < 0.1:
        return damaged[:4] + struct.pack("<I", numbers.number(generator)) + damaged[8:]
    return damaged


def _insert(chunks: list[bytes], generator: np.random.Generator) -> None:
    chunk = riff_chunk(numbers.choose(_KINDS, generator), numbers.blob(generator))
    chunks.insert(int(generator.integers(len(chunks) + 1)), chunk)


def _flood(chunks: list[bytes], generator: np.random.Generator) -> None:
    unit = riff_chunk(numbers.choose(_KINDS, generator), numbers.blob(generator, 30))
    if chunks and generator.random() < 0.3:
        unit = numbers.choose(chunks, generator)
    chunks.insert(int(generator.integers(len(chunks) + 1)), numbers.repeat(unit, generator))


def _resize(chunks: list[bytes], generator: np.random.Generator) -> None:
    """Change the size in the bit stream."""
    for place, chunk in enumerate(chunks):
        width, height = (min(max(1, numbers.side(generator)), 16_384) for _ in range(2))
        if chunk.startswith(b"VP8 "):
            chunks[place] = chunk[:14] + struct.pack("<HH", width & 0x3FFF, height & 0x3FFF) + chunk[18:]
        elif chunk.startswith(b"VP8L"):
            chunks[place] = chunk[:9] + struct.pack("<I", (width - 1) | (height - 1) << 14) + chunk[13:]


def _declare(chunks: list[bytes], generator: np.random.Generator) -> None:
    """Change or insert the header of an extended file."""
    width, height = (min(max(1, numbers.side(generator)), 1 << 24) for _ in range(2))
    header = webp_header(width, height, int(generator.integers(64)))
    has_header = chunks and chunks[0].startswith(b"VP8X")
    chunks[: bool(has_header)] = [header]


def _describe(chunks: list[bytes], generator: np.random.Generator) -> None:
    chunks.append(riff_chunk(b"EXIF", random_exif(generator)))
    if generator.random() < 0.8:
        chunks[:0] = [webp_header(96, 64, 8)]


def _animate(chunks: list[bytes], generator: np.random.Generator) -> None:
    """Make the image a frame of an animation, repeated, at any place of a canvas."""
    images = [chunk for chunk in chunks if chunk.startswith((b"VP8 ", b"VP8L"))]
    width, height = (min(max(1, numbers.side(generator)), 1 << 14) for _ in range(2))
    sides = generator.integers(0, 20, 2) if generator.random() < 0.5 else generator.integers(0, 1 << 23, 2)
    place = b"".join(int(side).to_bytes(3, "little") for side in sides)
    size = (95).to_bytes(3, "little") + (63).to_bytes(3, "little")
    frame = riff_chunk(b"ANMF", place + size + bytes(4) + b"".join(images[:1]))
    chunks[:] = [webp_header(width, height, 18), riff_chunk(b"ANIM", bytes(6)), numbers.repeat(frame, generator)]
