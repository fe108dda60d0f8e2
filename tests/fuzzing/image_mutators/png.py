"""PNG: chunks, their checksums, compressed texts, animations and EXIF."""

import struct
import zlib

import numpy as np
from image_formats import PNG_START, png_chunk, zeros

from image_mutators import numbers
from image_mutators.tiff import random_exif

_KINDS = (b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tEXt", b"IDAT", b"IEND", b"IHDR", b"prIv", b"sBIT")


def mutate(content: bytes, generator: np.random.Generator) -> bytes:
    """Change chunks of a PNG file, and correct the checksums, except for one in ten files."""
    chunks = _split(content)
    operations = (_insert, _resize, _repeat, _compress, _animate, _describe, _fill, _fit, numbers.rearrange)
    for _ in range(int(generator.integers(1, 5))):
        numbers.choose(operations, generator)(chunks, generator)
    written = [one if isinstance(one, bytes) else png_chunk(*one) for one in chunks]
    if written and generator.random() < 0.1:
        last = int(generator.integers(len(written)))
        written[last] = written[last][:-1] + b"x"
    return PNG_START + b"".join(written)


def _split(content: bytes) -> list[tuple[bytes, bytes] | bytes]:
    chunks: list[tuple[bytes, bytes] | bytes] = []
    position = 8
    while position < len(content):
        length = int.from_bytes(content[position : position + 4])
        chunks.append((content[position + 4 : position + 8], content[position + 8 : position + 8 + length]))
        position += length + 12
    return chunks


def _insert(chunks: list, generator: np.random.Generator) -> None:
    place = int(generator.integers(len(chunks) + 1))
    chunks.insert(place, (numbers.choose(_KINDS, generator), numbers.blob(generator)))


def _resize(chunks: list, generator: np.random.Generator) -> None:
    """Change one field of the header."""
    for place, chunk in enumerate(chunks):
        if chunk[0] == b"IHDR" and len(chunk[1]) == 13:
            fields = list(struct.unpack(">IIBBBBB", chunk[1]))
            field = int(generator.integers(8)) % 7
            fields[field] = (
                numbers.side(generator) if field < 2 else numbers.choose((0, 1, 2, 3, 4, 6, 8, 16), generator)
            )
            chunks[place] = (b"IHDR", struct.pack(">IIBBBBB", *fields))


def _repeat(chunks: list, generator: np.random.Generator) -> None:
    place = int(generator.integers(len(chunks) + 1))
    kind = numbers.choose(_KINDS, generator)
    chunks.insert(place, numbers.repeat(png_chunk(kind, numbers.blob(generator, 30)), generator))


def _compress(chunks: list, generator: np.random.Generator) -> None:
    """Insert texts or profiles that unpack to up to 100 MB each."""
    packed = zeros(numbers.count(generator, 1e8))
    head = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}
    kind = numbers.choose(tuple(head), generator)
    many = numbers.repeat(png_chunk(kind, head[kind] + packed), generator, 5_000_000)
    chunks.insert(int(generator.integers(len(chunks) + 1)), many)


def _animate(chunks: list, generator: np.random.Generator) -> None:
    frames = numbers.count(generator, 1e4)
    chunks.insert(1, (b"acTL", struct.pack(">II", numbers.number(generator), 0)))
    sides = [numbers.side(generator) for _ in range(4)] if generator.random() < 0.5 else [1, 1, 0, 0]
    for frame in range(frames):
        control = struct.pack(">5I", frame, *sides) + struct.pack(">HHBB", 1, 0, *generator.integers(4, size=2))
        chunks.insert(2 + frame, (b"fcTL", control))
    if generator.random() < 0.5:
        data = struct.pack(">I", frames) + zlib.compress(bytes(100))
        chunks.insert(int(generator.integers(len(chunks) + 1)), (b"fdAT", data))


def _describe(chunks: list, generator: np.random.Generator) -> None:
    chunks.insert(int(generator.integers(len(chunks) + 1)), (b"eXIf", random_exif(generator)))


def _fill(chunks: list, generator: np.random.Generator) -> None:
    """Replace the image data by zeros, in one or several chunks."""
    packed = zeros(numbers.count(generator, 1e9))
    step = max(1, len(packed) // numbers.count(generator, 1e4))
    data = [(b"IDAT", packed[start : start + step]) for start in range(0, len(packed), step)]
    others = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
    chunks[:] = [*others[:1], *data, *others[1:]] if generator.random() < 0.5 else [*others[:-1], *data, *others[-1:]]


def _fit(chunks: list, generator: np.random.Generator) -> None:
    """Replace the image by a valid one of any size below the limits."""
    bits, colour, channels = numbers.choose(
        ((1, 0, 1), (16, 0, 1), (8, 2, 3), (8, 3, 1), (8, 6, 4), (16, 6, 4)), generator
    )
    width = int(10 ** generator.uniform(0, 5))
    height = max(1, int(10 ** generator.uniform(0, 8.2)) // width)
    row = (width * bits * channels + 7) // 8 + 1
    others = [chunk for chunk in chunks if chunk[0] not in (b"IHDR", b"IDAT")]
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    chunks[:] = [header, *others[:-1], (b"IDAT", zeros(row * height)), *others[-1:]]
