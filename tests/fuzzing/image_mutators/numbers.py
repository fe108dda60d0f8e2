"""Random numbers for the fields of image files: mostly sensible, sometimes at or beyond a limit."""

from collections.abc import MutableSequence, Sequence
from typing import TypeVar

import numpy as np

_Item = TypeVar("_Item")
# 10,500 squared is just below the limit of memory with four bytes per pixel, 13,200 squared just below that of pixels.
SIDES = (0, 1, 2, 3, 8, 255, 256, 257, 4096, 10_500, 13_200, 16_383, 16_384, 65_535, 1 << 24, (1 << 31) - 1, 1 << 31)
NUMBERS = (0, 1, 2, 7, 8, 255, 256, 65_535, 65_536, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)


def choose(items: Sequence[_Item], generator: np.random.Generator) -> _Item:
    """Return one of the items."""
    return items[generator.integers(len(items))]


def side(generator: np.random.Generator) -> int:
    """Return a width or height."""
    return choose(SIDES, generator) if generator.random() < 0.6 else int(10 ** generator.uniform(0, 4.5))


def number(generator: np.random.Generator) -> int:
    """Return a number of up to 32 bits."""
    return choose(NUMBERS, generator) if generator.random() < 0.5 else int(2 ** generator.uniform(0, 32))


def count(generator: np.random.Generator, top: float = 1e6) -> int:
    """Return a number of repetitions: the median is about the sixth root of the maximum."""
    return int(top ** (generator.random() ** 2.5))


def blob(generator: np.random.Generator, top: float = 1e4) -> bytes:
    """Return random or uniform bytes."""
    length = count(generator, top)
    return generator.bytes(length) if generator.random() < 0.5 else bytes([generator.integers(256)]) * length


def repeat(unit: bytes, generator: np.random.Generator, size: int = 31_000_000) -> bytes:
    """Repeat a part, up to a size of the file."""
    return unit * min(count(generator), size // max(1, len(unit)))


def rearrange(parts: MutableSequence[_Item], generator: np.random.Generator) -> None:
    """Delete, duplicate or move one of the parts."""
    if not parts:
        return
    source, target = (int(generator.integers(len(parts))) for _ in range(2))
    match generator.integers(3):
        case 0:
            del parts[source]
        case 1:
            parts.insert(target, parts[source])
        case _:
            parts.insert(target, parts.pop(source))
