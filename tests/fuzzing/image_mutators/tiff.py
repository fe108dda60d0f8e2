"""TIFF, BigTIFF and EXIF: directories, their fields, strips and tiles."""

import struct
from dataclasses import replace

import numpy as np
from image_formats import TIFF_CODES, TIFF_SIZES, Tiff, TiffField, zeros

from image_mutators import numbers

WIDTH, HEIGHT, BITS, COMPRESSION, OFFSETS, ROWS, COUNTS = 256, 257, 258, 259, 273, 278, 279
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
# Orientation, resolutions, colour map, sub-directories, sample format, JPEG tables, colour profile, EXIF, GPS, ...
_TAGS = (254, 262, 266, 274, 277, 282, 283, 284, 296, 317, 320, 330, 338, 339, 347, 529, 530, 532, 700, 33723, 34377)
_DIRECTORIES = (330, 34665, 34853, 40965)
_COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32946, 34661, 34676, 34887, 34925, 50000, 50001)

Fields = dict[int, TiffField]


def mutate(content: bytes, generator: np.random.Generator) -> bytes:
    """Write the first image of a TIFF file again, with changed fields and another byte order or size of offsets."""
    tiff = Tiff(numbers.choose("<>", generator), bool(generator.random() < 0.3))
    fields = _read(content, tiff)
    if generator.random() < 0.15:
        fields |= _zero_strips(tiff, generator)
    for _ in range(int(generator.integers(1, 6))):
        numbers.choose((_change, _set_size, _set_layout, _point, _retype), generator)(fields, tiff, generator)
    return _write(fields, tiff, generator)


def random_exif(generator: np.random.Generator) -> bytes:
    """Return an EXIF block with strange fields."""
    tiff = Tiff(numbers.choose("<>", generator))
    fields = {274: tiff.field(274, int(generator.integers(10)), type_=3)}
    for _ in range(int(generator.integers(4))):
        numbers.choose((_change, _point, _retype), generator)(fields, tiff, generator)
    return _write(fields, tiff, generator)


def _read(content: bytes, tiff: Tiff) -> Fields:
    """Read the fields of a classic TIFF file, and copy its strips."""
    order = "<" if content.startswith(b"II") else ">"
    (start,) = struct.unpack_from(order + "I", content, 4)
    (number,) = struct.unpack_from(order + "H", content, start)
    fields = {}
    for entry in range(number):
        tag, type_, count, place = struct.unpack_from(order + "HHII", content, start + 2 + 12 * entry)
        size = TIFF_SIZES[type_] * count
        place = place if size > 4 else start + 2 + 12 * entry + 8
        data = content[place : place + size]
        if code := TIFF_CODES.get(type_):
            values = struct.unpack(f"{order}{count}{code}", data)
            fields[tag] = tiff.field(tag, *values, type_=type_)
        else:
            fields[tag] = TiffField(tag, type_, data)
    offsets, counts = (_numbers(fields[tag], tiff) for tag in (OFFSETS, COUNTS))
    copied = [tiff.add(content[offset : offset + size]) for offset, size in zip(offsets, counts, strict=True)]
    fields[OFFSETS] = tiff.field(OFFSETS, *copied)
    return fields


def _numbers(field: TiffField, tiff: Tiff) -> tuple[int, ...]:
    code = TIFF_CODES[field.type]
    return struct.unpack(f"{tiff.order}{len(field.value) // TIFF_SIZES[field.type]}{code}", field.value)


def _zero_strips(tiff: Tiff, generator: np.random.Generator) -> Fields:
    """Return an image of any size, made of one deflated strip that is used again and again."""
    width, rows = (int(10 ** generator.uniform(0, 4.2)) for _ in range(2))
    strips = numbers.count(generator, 1e4)
    data = zeros(min(width * rows, 1 << 30))
    values = {WIDTH: width, HEIGHT: rows * strips, BITS: 8, COMPRESSION: 8, 262: 1, 277: 1, ROWS: rows}
    fields = {tag: tiff.field(tag, min(value, (1 << 32) - 1)) for tag, value in values.items()}
    offset = tiff.add(data)
    return fields | {
        OFFSETS: tiff.field(OFFSETS, *[offset] * strips),
        COUNTS: tiff.field(COUNTS, *[len(data)] * strips),
    }


def _change(fields: Fields, tiff: Tiff, generator: np.random.Generator) -> None:
    """Set one field to small or strange numbers."""
    tag = numbers.choose(_TAGS, generator)
    top = 9 if generator.random() < 0.7 else 1 << 16
    values = [int(value) for value in generator.integers(top, size=numbers.choose((1, 1, 1, 2, 3, 4, 768), generator))]
    fields[tag] = tiff.field(tag, *values, type_=numbers.choose((3, 4), generator))


def _set_size(fields: Fields, tiff: Tiff, generator: np.random.Generator) -> None:
    tag = numbers.choose((WIDTH, HEIGHT, ROWS, TILE_WIDTH, TILE_HEIGHT, BITS, COMPRESSION), generator)
    if tag in (BITS, COMPRESSION):
        values = (1, 2, 4, 8, 12, 16, 32, 64) if tag == BITS else _COMPRESSIONS
        fields[tag] = tiff.field(tag, numbers.choose(values, generator), type_=3)
    else:
        fields[tag] = tiff.field(tag, min(numbers.side(generator), (1 << 32) - 1))


def _set_layout(fields: Fields, tiff: Tiff, generator: np.random.Generator) -> None:
    """Describe the data as many strips or tiles, which share their data or lie anywhere."""
    number = numbers.count(generator, 1e6)
    first = tiff.add(b"")
    code = tiff.order + "u4"
    match generator.integers(3):
        case 0:
            offsets = np.full(number, 8, code)
        case 1:
            offsets = generator.integers(0, max(first, 9), number).astype(code)
        case _:
            offsets = np.arange(number).astype(code)
    sizes = np.full(number, min(numbers.number(generator), (1 << 32) - 1), code)
    tags = (OFFSETS, COUNTS) if generator.random() < 0.6 else (TILE_OFFSETS, TILE_COUNTS)
    for tag, values in zip(tags, (offsets, sizes), strict=True):
        fields[tag] = TiffField(tag, 4, values.tobytes())
    if tags[0] == OFFSETS:
        fields[ROWS] = tiff.field(ROWS, numbers.choose((1, 8, 64), generator))
    else:
        fields.pop(OFFSETS, None)
        for tag in (TILE_WIDTH, TILE_HEIGHT):
            fields[tag] = tiff.field(tag, numbers.choose((1, 16, 16, 64, 256, 10_000), generator))


def _point(fields: Fields, tiff: Tiff, generator: np.random.Generator) -> None:
    """Give fields many values, all at the same place."""
    block = tiff.add(numbers.blob(generator, 2e7))
    for _ in range(int(generator.integers(1, 4))):
        tag = numbers.choose((*_TAGS, BITS, WIDTH, 65_000), generator)
        type_ = numbers.choose(tuple(TIFF_SIZES), generator)
        fields[tag] = tiff.pointer(tag, type_, numbers.count(generator, 2e7), block)


def _retype(fields: Fields, tiff: Tiff, generator: np.random.Generator) -> None:
    """Change the type or number of values of a field."""
    tag = numbers.choose(tuple(fields), generator)
    if generator.random() < 0.5:
        fields[tag] = replace(fields[tag], type=int(generator.integers(20)))
    else:
        fields[tag] = replace(fields[tag], count=numbers.number(generator), value=fields[tag].value[: tiff.word])


def _write(fields: Fields, tiff: Tiff, generator: np.random.Generator) -> bytes:
    """Write the directory, with sub-directories, loops, chains and repeated fields."""
    ordered = [fields[tag] for tag in sorted(fields)]
    if generator.random() < 0.3:
        numbers.rearrange(ordered, generator)
    if generator.random() < 0.1:
        ordered *= numbers.count(generator, 60_000 / max(1, len(ordered)))
    here = tiff.add(b"")
    if generator.random() < 0.3:
        child = tiff.add_directory(ordered, here) if generator.random() < 0.5 else here
        ordered += [tiff.field(tag, child) for tag in _DIRECTORIES if generator.random() < 0.5]
    following = 0
    if generator.random() < 0.2:
        for _ in range(numbers.count(generator, 1e4)):
            following = tiff.add_directory(ordered[:1], following)
    claimed = numbers.number(generator) % 65_536 if generator.random() < 0.1 else None
    count = claimed if len(ordered) <= 65_535 else 65_535
    return tiff.file(tiff.add_directory(ordered, following, count))
