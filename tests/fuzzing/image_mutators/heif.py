"""AVIF and HEIC: nested boxes."""

import struct

import numpy as np
from byte_mutator import mutate as mutate_bytes
from image_formats import box, split_boxes

from image_mutators import numbers

_PARENTS = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0}
_KINDS = (b"free", b"junk", b"ispe", b"pixi", b"irot", b"imir", b"clap", b"auxC", b"colr", b"infe", b"dimg", b"meta")


def mutate(content: bytes, generator: np.random.Generator) -> bytes:
    """Change boxes of an AVIF or HEIC file. If its metadata grows, the place of the data is corrected."""
    written = [(kind, _rewrite(kind, inner, generator)) for kind, inner in split_boxes(content)]
    if generator.random() < 0.1:
        numbers.rearrange(written, generator)
    growth = sum(len(inner) for kind, inner in written if kind != b"mdat")
    growth -= sum(len(inner) for kind, inner in split_boxes(content) if kind != b"mdat")
    return b"".join(box(kind, _shift(inner, growth) if kind == b"meta" else inner) for kind, inner in written)


def _rewrite(kind: bytes, content: bytes, generator: np.random.Generator) -> bytes:
    """Change the boxes in a box, or its bytes."""
    if kind not in _PARENTS:
        if kind in (b"mdat", b"ftyp", b"iloc"):
            return content
        return _change_field(content, generator) if generator.random() < 0.08 else content
    head = _PARENTS[kind]
    parts = [(name, _rewrite(name, inner, generator)) for name, inner in split_boxes(content[head:])]
    written = [box(*part) for part in parts]
    if generator.random() < 0.15:
        numbers.choose((numbers.rearrange, _flood, _nest, _lie), generator)(written, generator)
    return content[:head] + b"".join(written)


def _change_field(content: bytes, generator: np.random.Generator) -> bytes:
    """Change four bytes to a number, or any bytes."""
    if len(content) < 4 or generator.random() < 0.3:
        return mutate_bytes(content, generator)
    place = int(generator.integers(len(content) - 3))
    value = numbers.side(generator) if generator.random() < 0.5 else numbers.number(generator)
    return content[:place] + struct.pack(">I", value) + content[place + 4 :]


def _flood(boxes: list[bytes], generator: np.random.Generator) -> None:
    unit = box(numbers.choose(_KINDS, generator), numbers.blob(generator, 40))
    if boxes and generator.random() < 0.4:
        unit = numbers.choose(boxes, generator)
    boxes.insert(int(generator.integers(len(boxes) + 1)), numbers.repeat(unit, generator))


def _nest(boxes: list[bytes], generator: np.random.Generator) -> None:
    if boxes:
        place = int(generator.integers(len(boxes)))
        for _ in range(numbers.count(generator, 1000)):
            boxes[place] = box(boxes[place][4:8], boxes[place])


def _lie(boxes: list[bytes], generator: np.random.Generator) -> None:
    """Change the declared size of a box."""
    if boxes:
        place = int(generator.integers(len(boxes)))
        boxes[place] = struct.pack(">I", numbers.number(generator)) + boxes[place][4:]


def _shift(meta: bytes, growth: int) -> bytes:
    """Add to the offset of the only item of a location box, as Pillow and libheif write it."""
    place = meta.find(b"iloc")
    if place < 0 or len(meta) < place + 26 or not 0 <= growth < 1 << 28:
        return meta
    where = place + 18 if meta[place + 4] == 0 else place + 20
    (offset,) = struct.unpack_from(">I", meta, where)
    return meta[:where] + struct.pack(">I", (offset + growth) % (1 << 32)) + meta[where + 4 :]
