"""Image files of at most 32 MB that cost a decoder minutes or gigabytes. `BOMBS` holds a maker for each name."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import zoo
from image_formats import (
    Tiff,
    TiffField,
    box,
    full_box,
    jpeg,
    jpeg_segment,
    png,
    png_chunk,
    png_header,
    riff_chunk,
    split_boxes,
    split_chunks,
    split_jpeg,
    webp,
    webp_header,
    zeros,
)
from PIL import Image, features
from runner import Case

from showtell.images import Preprocess

MAX_BYTES = 32_000_000
SIDE = 13_000  # an image of this width and height is just below the pixel limit
LARGE = 10_500  # an image of this width and height with four bytes per pixel takes 440 MB
BOMBS: dict[str, Callable[[], bytes]] = {}


def bomb_case(folder: Path) -> Case:
    """Decode the bomb with the number of the case, which the runner can repeat by this number."""
    makers = list(BOMBS.values())
    preprocess = Preprocess()

    def case(generator: np.random.Generator) -> None:
        _, number = generator.bit_generator.seed_seq.entropy  # type: ignore[attr-defined]
        content = makers[number % len(makers)]()
        assert len(content) <= MAX_BYTES
        preprocess.load(content)

    return case


def _bomb(make: Callable[[], bytes]) -> Callable[[], bytes]:
    BOMBS[make.__name__.replace("_", "-")] = make
    return make


def _fill(unit: bytes, size: int = 31_000_000) -> bytes:
    """Repeat a part of a file up to a size."""
    return unit * (size // len(unit))


# Programs


@_bomb
def iptc_with_eps() -> bytes:
    """IPTC, which Pillow recognises without a magic number, with an EPS program inside."""
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"
    fields = [((3, 60), b"\1\0"), ((3, 20), b"\0\x09"), ((3, 30), b"\0\x09"), ((3, 120), b"\5"), ((8, 10), program)]
    return b"".join(b"\x1c" + bytes(tag) + struct.pack(">H", len(value)) + value for tag, value in fields)


# JPEG


def _small_jpeg(**options: object) -> tuple[list[bytes], bytes]:
    return split_jpeg(zoo.encode(zoo.photo(64), "JPEG", **options))


def _resized(segments: list[bytes], width: int, height: int) -> list[bytes]:
    """Change the dimensions in the frame header."""
    return [
        segment[:5] + struct.pack(">HH", height, width) + segment[9:] if 0xC0 <= segment[1] <= 0xC2 else segment
        for segment in segments
    ]


@_bomb
def jpeg_empty_scans() -> bytes:
    """12,000 progressive scans without data."""
    segments, scans = _small_jpeg(progressive=True)
    tables = b"".join(segment for segment in _huffman_tables(scans))
    empty = jpeg_segment(0xDA, b"\1\1\0\1\x3f\0") + b"\xff\x00" * 36
    return jpeg(_resized(segments, 4000, 4000), tables + empty * 12_000 + b"\xff\xd9")


def _huffman_tables(scans: bytes) -> Iterator[bytes]:
    position = 0
    while (position := scans.find(b"\xff\xc4", position)) >= 0:
        length = 2 + int.from_bytes(scans[position + 2 : position + 4])
        yield scans[position : position + length]
        position += length


@_bomb
def jpeg_scan_flood() -> bytes:
    """Two million scan headers."""
    segments, scans = _small_jpeg(progressive=True)
    tables = b"".join(_huffman_tables(scans))
    return jpeg(segments, tables + _fill(jpeg_segment(0xDA, b"\1\1\0\1\x3f\0")) + b"\xff\xd9")


@_bomb
def jpeg_empty_markers() -> bytes:
    """8 million empty APP0 markers."""
    segments, scans = _small_jpeg()
    return jpeg([_fill(jpeg_segment(0xE0)), *segments], scans)


@_bomb
def jpeg_comments() -> bytes:
    """5 million comments."""
    segments, scans = _small_jpeg()
    return jpeg([_fill(jpeg_segment(0xFE, b"ab")), *segments], scans)


@_bomb
def jpeg_huffman_markers() -> bytes:
    """8 million empty DHT markers, which Pillow skips one by one."""
    segments, scans = _small_jpeg()
    return jpeg([_fill(jpeg_segment(0xC4)), *segments], scans)


@_bomb
def jpeg_restart_intervals_between_scans() -> bytes:
    """5 million DRI markers after the image data of the first of several scans."""
    segments, scans = _small_jpeg(progressive=True)
    return jpeg(segments, scans[:-2] + _fill(jpeg_segment(0xDD, b"\0\1")) + b"\xff\xd9")


@_bomb
def jpeg_quantization_tables() -> bytes:
    """440,000 quantization tables."""
    segments, scans = _small_jpeg()
    return jpeg([_fill(jpeg_segment(0xDB, bytes([0]) + bytes([1]) * 64)), *segments], scans)


@_bomb
def jpeg_fill_bytes() -> bytes:
    """31 million fill bytes before a marker."""
    segments, scans = _small_jpeg()
    return jpeg([segments[0], _fill(b"\xff"), *segments[1:]], scans)


@_bomb
def jpeg_junk() -> bytes:
    """31 million bytes of junk before a marker."""
    segments, scans = _small_jpeg()
    return jpeg([segments[0], _fill(b"\0"), *segments[1:]], scans)


@_bomb
def jpeg_small_exif_segments() -> bytes:
    """EXIF in a million segments, which Pillow joins one by one."""
    segments, scans = _small_jpeg()
    return jpeg([*segments, _fill(jpeg_segment(0xE1, b"Exif\0\0" + bytes(20)))], scans)


@_bomb
def jpeg_exif_fractions() -> bytes:
    """EXIF of 15 MB whose orientation consists of two million fractions."""
    segments, scans = _small_jpeg()
    exif = _exif_fractions(15_000_000)
    pieces = [exif[start : start + 65_000] for start in range(0, len(exif), 65_000)]
    return jpeg([*segments, *(jpeg_segment(0xE1, b"Exif\0\0" + piece) for piece in pieces)], scans)


def _exif_fractions(size: int) -> bytes:
    exif = Tiff()
    values = exif.add(_fill(struct.pack("<2I", 3, 7), size))
    return exif.file(exif.add_directory([exif.pointer(0x0112, 5, size // 8, values)]))


@_bomb
def jpeg_photoshop_resources() -> bytes:
    """2 million Photoshop resources."""
    segments, scans = _small_jpeg()
    resource = b"8BIM\4\4\0\0\0\0\0\0"
    return jpeg([*segments, _fill(jpeg_segment(0xED, b"Photoshop 3.0\0" + resource * 5400))], scans)


@_bomb
def jpeg_progressive_coefficients() -> bytes:
    """A progressive file of less than 1 kB, whose coefficients take 1 GB."""
    segments, scans = _small_jpeg(progressive=True, subsampling=0)
    return jpeg(_resized(segments, SIDE, SIDE), scans)


@_bomb
def jpeg_baseline_without_data() -> bytes:
    """A baseline file of less than 1 kB with 170 million pixels, narrow enough to be decoded at full scale."""
    segments, scans = _small_jpeg(subsampling=0)
    return jpeg(_resized(segments, 65_500, 440), scans)


@_bomb
def jpeg_cmyk_progressive() -> bytes:
    """Four components of 13,000 x 13,000 coefficients."""
    segments, scans = split_jpeg(zoo.encode(zoo.photo(64).convert("CMYK"), "JPEG", progressive=True))
    return jpeg(_resized(segments, SIDE, SIDE), scans)


@_bomb
def jpeg_refinement_scans() -> bytes:
    """80 refinement scans with runs of empty blocks: each coefficient is visited in each scan."""
    segments, _ = split_jpeg(zoo.encode(zoo.photo(64).convert("L"), "JPEG", progressive=True))
    segments = _resized([segment for segment in segments if segment[1] != 0xC4], 12_000, 12_000)
    run = jpeg_segment(0xC4, b"\x10\1" + bytes(15) + b"\xe0")  # the code 0 means 16,384 empty blocks or more
    runs = 12_000 * 12_000 // 64 // 16_384 + 1
    scan = jpeg_segment(0xDA, b"\1\1\0\1\x3f\x10") + bytes(runs * 15 // 8 + 1)
    return jpeg([*segments, run], scan * 80 + b"\xff\xd9")


@_bomb
def jpeg_arithmetic() -> bytes:
    """13,000 x 13,000 arithmetic-coded pixels; each restart interval, of one row, is decoded from zeros."""
    return _arithmetic_jpeg(SIDE, 0xC9, jpeg_segment(0xDD, struct.pack(">H", SIDE // 8)), b"\3\1\0\2\0\3\0\0\x3f\0")


@_bomb
def jpeg_arithmetic_random() -> bytes:
    """13,000 x 13,000 arithmetic-coded pixels from random data, with a restart after each block."""
    return _arithmetic_jpeg(SIDE, 0xC9, jpeg_segment(0xDD, b"\0\1"), b"\3\1\0\2\0\3\0\0\x3f\0")


def _arithmetic_jpeg(side: int, frame: int, extra: bytes, scan: bytes) -> bytes:
    segments, _ = _small_jpeg(subsampling=0)
    segments = _resized([segment for segment in segments if segment[1] != 0xC4], side, side)
    segments = [segment[:1] + bytes([frame]) + segment[2:] if segment[1] == 0xC0 else segment for segment in segments]
    generator = np.random.default_rng(0)
    data = generator.integers(0, 255, (200_000, 8), np.uint8)
    markers = np.tile(
        np.frombuffer(b"".join(b"\xff" + bytes([0xD0 + number]) for number in range(8)), np.uint8), 25_000
    )
    scanned = np.concatenate([data, markers.reshape(-1, 2)], axis=1).tobytes()
    return jpeg([*segments, extra], jpeg_segment(0xDA, scan) + scanned * 15 + b"\xff\xd9")


# PNG


def _pixels() -> list[bytes]:
    return [png_header(8, 8), png_chunk(b"IDAT", zeros(8 * 25))]


@_bomb
def png_private_chunks() -> bytes:
    """2.5 million unknown chunks before the image data."""
    header, data = _pixels()
    return png(header, _fill(png_chunk(b"prIv")), data)


@_bomb
def png_chunks_after_data() -> bytes:
    """2.5 million unknown chunks after the image data."""
    return png(*_pixels(), _fill(png_chunk(b"prIv")))


@_bomb
def png_empty_data_chunks() -> bytes:
    """2.5 million empty chunks of image data."""
    header, data = _pixels()
    return png(header, data[:0], _fill(png_chunk(b"IDAT")), data)


@_bomb
def png_text_chunks() -> bytes:
    """A million texts with different keys."""
    header, data = _pixels()
    texts = b"".join(png_chunk(b"tEXt", b"%d\0" % number) for number in range(700_000))
    return png(header, texts, data)


@_bomb
def png_vast_rgba() -> bytes:
    """13,000 x 13,000 pixels with transparency, in 0.7 MB."""
    return _vast_png(8, 6, 4)


@_bomb
def png_vast_16_bits() -> bytes:
    """13,000 x 13,000 pixels of 16 bits with transparency."""
    return _vast_png(16, 6, 8)


@_bomb
def png_vast_grey_16_bits() -> bytes:
    """13,000 x 13,000 grey pixels of 16 bits."""
    return _vast_png(16, 0, 2)


@_bomb
def png_vast_1_bit() -> bytes:
    """13,000 x 13,000 pixels of 1 bit, in 20 kB."""
    return _vast_png(1, 0, 1 / 8)


@_bomb
def png_vast_interlaced() -> bytes:
    """13,000 x 13,000 interlaced pixels."""
    return _vast_png(8, 2, 3, interlace=1)


@_bomb
def png_vast_transparent_palette() -> bytes:
    """13,000 x 13,000 pixels with a palette and transparent colours."""
    palette = [png_chunk(b"PLTE", bytes(range(256)) * 3), png_chunk(b"tRNS", bytes(range(256)))]
    header = png_header(SIDE, SIDE, 8, 3)
    return png(header, *palette, png_chunk(b"IDAT", zeros(SIDE * (SIDE + 1))))


def _vast_png(bits: int, colour: int, bytes_per_pixel: float, interlace: int = 0, side: int = SIDE) -> bytes:
    size = int(side * (side * bytes_per_pixel + 1)) + 30 * side * interlace
    return png(png_header(side, side, bits, colour, interlace), png_chunk(b"IDAT", zeros(size)))


@_bomb
def png_large_rgba() -> bytes:
    """10,500 x 10,500 pixels with transparency."""
    return _vast_png(8, 6, 4, side=LARGE)


@_bomb
def png_large_rgba_16_bits() -> bytes:
    """10,500 x 10,500 pixels of 16 bits with transparency."""
    return _vast_png(16, 6, 8, side=LARGE)


@_bomb
def png_large_interlaced() -> bytes:
    """10,500 x 10,500 interlaced pixels."""
    return _vast_png(8, 6, 4, interlace=1, side=LARGE)


@_bomb
def png_compressed_texts() -> bytes:
    """20,000 texts that each unpack to 1 MB, and that are not valid UTF-8."""
    header, data = _pixels()
    text = zlib.compress(bytes((1 << 20) - 2) + b"\xff", 9)
    return png(header, _fill(png_chunk(b"iTXt", b"a\0\1\0\0\0" + text)), data)


@_bomb
def png_compressed_profiles() -> bytes:
    """20,000 colour profiles that each unpack to 1 MB."""
    header, data = _pixels()
    return png(header, _fill(png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 20), 9))), data)


@_bomb
def png_wide_texts() -> bytes:
    """60 texts of a million characters that each take four bytes in memory."""
    header, data = _pixels()
    text = zlib.compress(bytes((1 << 20) - 8) + "\N{DOG FACE}".encode(), 9)
    return png(header, *(png_chunk(b"iTXt", b"a%d\0\1\0\0\0" % number + text) for number in range(60)), data)


@_bomb
def png_exif_fractions() -> bytes:
    """EXIF whose orientation consists of 3.8 million fractions."""
    header, data = _pixels()
    return png(header, png_chunk(b"eXIf", _exif_fractions(30_000_000)), data)


@_bomb
def png_animation_controls() -> bytes:
    """700,000 frame controls of an animation."""
    header, data = _pixels()
    control = struct.pack(">IIIIIHHBB", 8, 8, 0, 0, 0, 1, 1, 0, 0)[4:]
    frames = [
        png_chunk(b"fcTL", struct.pack(">I", number) + struct.pack(">II", 8, 8) + control[4:] + bytes(4))
        for number in range(500_000)
    ]
    return png(header, png_chunk(b"acTL", struct.pack(">II", 500_000, 0)), *frames, data)


# TIFF


def _tiff_fields(tiff: Tiff, width: int, height: int, compression: int = 1, samples: int = 1) -> list[TiffField]:
    return [
        tiff.field(256, width),
        tiff.field(257, height),
        tiff.field(258, *[8] * samples, type_=3),
        tiff.field(259, compression, type_=3),
        tiff.field(262, 2 if samples == 3 else 1, type_=3),
        tiff.field(277, samples, type_=3),
    ]


@_bomb
def tiff_strip_per_row() -> bytes:
    """One strip for each of 3.8 million rows of one pixel."""
    tiff, rows = Tiff(), 3_800_000
    offsets = tiff.add(np.arange(8, 8 + rows, dtype="<u4").tobytes())
    counts = tiff.add(np.ones(rows, "<u4").tobytes())
    strips = [tiff.pointer(273, 4, rows, offsets), tiff.field(278, 1), tiff.pointer(279, 4, rows, counts)]
    return tiff.file(tiff.add_directory([*_tiff_fields(tiff, 1, rows), *strips]))


@_bomb
def tiff_strip_per_row_deflate() -> bytes:
    """One deflated strip for each row, all at the same offset."""
    tiff, rows = Tiff(), 3_800_000
    row = zlib.compress(bytes(1))
    offsets = tiff.add(np.full(rows, tiff.add(row), "<u4").tobytes())
    counts = tiff.add(np.full(rows, len(row), "<u4").tobytes())
    strips = [tiff.pointer(273, 4, rows, offsets), tiff.field(278, 1), tiff.pointer(279, 4, rows, counts)]
    return tiff.file(tiff.add_directory([*_tiff_fields(tiff, 1, rows, 8), *strips]))


@_bomb
def tiff_shared_strips() -> bytes:
    """10,000 deflated strips, which all are the same 30 MB."""
    tiff, rows = Tiff(), 10_000
    size = 30_000_000
    offsets = tiff.add(np.full(rows, tiff.add(zlib.compress(bytes(1)).ljust(size, b"\0")), "<u4").tobytes())
    counts = tiff.add(np.full(rows, size, "<u4").tobytes())
    strips = [tiff.pointer(273, 4, rows, offsets), tiff.field(278, 1), tiff.pointer(279, 4, rows, counts)]
    return tiff.file(tiff.add_directory([*_tiff_fields(tiff, 1, rows, 8), *strips]))


@_bomb
def tiff_tiny_tiles() -> bytes:
    """7 million tiles of 1 x 1 pixels."""
    tiff, side = Tiff(), 2_600
    offsets = tiff.add(np.full(side * side, 8, "<u4").tobytes())
    tiles = [tiff.field(322, 1), tiff.field(323, 1), tiff.pointer(324, 4, side * side, offsets)]
    return tiff.file(tiff.add_directory([*_tiff_fields(tiff, side, side), *tiles]))


@_bomb
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


@_bomb
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


@_bomb
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


@_bomb
def tiff_two_resolutions() -> bytes:
    """Two resolutions of a million fractions each."""
    tiff = Tiff()
    values = tiff.add(_fill(struct.pack("<2I", 3, 7), 8_000_000))
    strip = [tiff.field(273, 8), tiff.field(278, 1), tiff.field(279, 1)]
    resolutions = [tiff.pointer(tag, 5, 1_000_000, values) for tag in (282, 283)]
    return tiff.file(tiff.add_directory([*_tiff_fields(tiff, 1, 1), *strip, *resolutions, _END_PADDING]))


_END_PADDING = TiffField(700, 1, bytes(8_000_000))


@_bomb
def tiff_large_rgba() -> bytes:
    """10,500 x 10,500 pixels in 340 strips."""
    return _large_tiff(4, 1)


@_bomb
def tiff_large_16_bits() -> bytes:
    """10,500 x 10,500 grey pixels of 16 bits in 340 strips."""
    return _large_tiff(1, 2)


@_bomb
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


@_bomb
def tiff_vast_deflate() -> bytes:
    """13,000 x 13,000 pixels in 0.5 MB."""
    return _vast_tiff([], samples=3)


@_bomb
def tiff_vast_turned() -> bytes:
    """13,000 x 13,000 pixels that have to be turned."""
    return _vast_tiff([Tiff().field(274, 6, type_=3)], samples=3)


@_bomb
def tiff_vast_float() -> bytes:
    """13,000 x 13,000 grey pixels of 32 bits."""
    return _vast_tiff([Tiff().field(258, 32, type_=3), Tiff().field(339, 3, type_=3)], bytes_per_sample=4)


def _vast_tiff(fields: list[TiffField], samples: int = 1, bytes_per_sample: int = 1) -> bytes:
    tiff = Tiff()
    content = zeros(SIDE * SIDE * samples * bytes_per_sample)
    strip = [tiff.field(273, tiff.add(content)), tiff.field(278, SIDE), _count(tiff, content)]
    by_tag = {field.tag: field for field in [*_tiff_fields(tiff, SIDE, SIDE, 8, samples), *strip, *fields]}
    return tiff.file(tiff.add_directory([by_tag[tag] for tag in sorted(by_tag)]))


@_bomb
def tiff_million_fields() -> bytes:
    """BigTIFF with 1.5 million fields, to which the EXIF, GPS and interoperability directories point too."""
    tiff = Tiff(is_big=True)
    fields = [*_tiff_fields(tiff, 1, 1), tiff.field(273, 8), tiff.field(278, 1), tiff.field(279, 1)]
    number, entry = 1_500_000, struct.pack("<HHQQ", 60_000, 99, 1, 0)
    fields += [tiff.field(tag, 16) for tag in (0x8769, 0x8825, 0xA005)]
    entries = b"".join(struct.pack("<HHQ", one.tag, one.type, 1) + one.value.ljust(8, b"\0") for one in fields)
    directory = struct.pack("<Q", len(fields) + number) + entries + _fill(entry, number * len(entry)) + bytes(8)
    return tiff.file(tiff.add(directory))


@_bomb
def tiff_exif_fractions() -> bytes:
    """An EXIF directory with 3.8 million fractions, which Pillow converts after decoding."""
    tiff = Tiff()
    values = tiff.add(_fill(struct.pack("<2I", 3, 7), 30_000_000))
    exif = tiff.add_directory([tiff.pointer(0x829A, 5, 3_750_000, values)])
    fields = [*_tiff_fields(tiff, 1, 1), tiff.field(273, 8), tiff.field(278, 1), tiff.field(279, 1)]
    return tiff.file(tiff.add_directory([*fields, tiff.field(0x8769, exif), tiff.field(0x8825, exif)]))


@_bomb
def tiff_resolution_fractions() -> bytes:
    """A resolution of 3.8 million fractions."""
    tiff = Tiff()
    values = tiff.add(_fill(struct.pack("<2I", 3, 7), 30_000_000))
    strip = [tiff.field(273, 8), tiff.field(278, 1), tiff.field(279, 1)]
    return tiff.file(tiff.add_directory([*_tiff_fields(tiff, 1, 1), *strip, tiff.pointer(282, 5, 3_750_000, values)]))


@_bomb
def tiff_sample_bits() -> bytes:
    """A number of bits for each of 15 million samples."""
    tiff = Tiff()
    values = tiff.add(_fill(b"\xe8\3", 30_000_000))
    fields = [field for field in _tiff_fields(tiff, 1, 1) if field.tag != 258]
    strip = [tiff.field(273, 8), tiff.field(278, 1), tiff.field(279, 1)]
    return tiff.file(tiff.add_directory([*fields, *strip, tiff.pointer(258, 3, 15_000_000, values)]))


# GIF


def _gif(width: int, height: int, *extensions: bytes) -> bytes:
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    palette = bytes(range(6))
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + palette + b"".join(extensions) + frame + b";"


@_bomb
def gif_tiny_blocks() -> bytes:
    """An extension of 15 million blocks of one byte."""
    return _gif(1, 1, b"!\x01", _fill(b"\1a"), b"\0")


@_bomb
def gif_comment_blocks() -> bytes:
    """A comment of 10 million blocks of two bytes."""
    return _gif(1, 1, b"!\xfe", _fill(b"\2ab"), b"\0")


@_bomb
def gif_extensions() -> bytes:
    """10 million empty extensions."""
    return _gif(1, 1, _fill(b"!\1\0"))


@_bomb
def gif_vast_screen() -> bytes:
    """A transparent screen of 13,000 x 13,000 pixels with a frame of one pixel, in 50 bytes."""
    return _gif(SIDE, SIDE, b"!\xf9\4\1\0\0\0\0")


# BMP


def _bmp(width: int, height: int, bits: int, compression: int, content: bytes) -> bytes:
    colours = 1 << bits if bits <= 8 else 0
    palette = b"".join(bytes([number, 0, 255 - number, 0]) for number in range(colours))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(content), 1, 1, colours, 0)
    offset = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(content), 0, 0, offset) + header + palette + content


@_bomb
def bmp_runs_outside_the_row() -> bytes:
    """Runs of pixels that do not fit into the row, which have no effect."""
    return _bmp(8, 8, 8, 1, b"\x08\0" + _fill(b"\1\0"))


@_bomb
def bmp_empty_runs() -> bytes:
    """Ends of rows, which Pillow fills pixel by pixel: 13,000 rows of one pixel and an end."""
    return _bmp(SIDE, SIDE, 8, 1, b"\1\1\0\0" * SIDE)


@_bomb
def bmp_vast_runs_of_4_bits() -> bytes:
    """13,000 x 13,000 pixels in runs, in 1.3 MB."""
    row = b"\xff\x12" * (SIDE // 255) + bytes([SIDE % 255, 1]) + b"\0\0"
    return _bmp(SIDE, SIDE, 4, 2, row * SIDE)


@_bomb
def bmp_large_empty_runs() -> bytes:
    """10,000 rows of one pixel and an end, at 10,000 pixels per row."""
    return _bmp(10_000, 10_000, 8, 1, b"\1\1\0\0" * 10_000)


@_bomb
def bmp_large_runs_of_4_bits() -> bytes:
    """10,000 x 10,000 pixels in runs, in 0.8 MB."""
    row = b"\xff\x12" * 39 + b"\x37\x12\0\0"
    return _bmp(10_000, 10_000, 4, 2, row * 10_000)


@_bomb
def bmp_vast_1_bit() -> bytes:
    """13,000 x 13,000 pixels of 1 bit."""
    return _bmp(SIDE, SIDE, 1, 0, bytes(SIDE * ((SIDE + 31) // 32 * 4)))


@_bomb
def bmp_vast_without_data() -> bytes:
    """13,000 x 13,000 pixels in the header, and no pixels."""
    return _bmp(SIDE, SIDE, 32, 0, b"")


# WebP


@_bomb
def webp_vast_canvas() -> bytes:
    """A canvas of 13,000 x 13,000 pixels with a frame of one pixel."""
    ((_, still), *_rest) = split_chunks(zoo.encode(Image.new("RGBA", (1, 1)), "WEBP", lossless=True)[12:])
    frame = bytes(12) + b"\1\0\0\0" + riff_chunk(b"VP8L", still)
    return webp(webp_header(SIDE, SIDE, 18), riff_chunk(b"ANIM", bytes(6)), riff_chunk(b"ANMF", frame))


@_bomb
def webp_vast_lossless() -> bytes:
    """13,000 x 13,000 lossless pixels of one colour."""
    return _lossless_webp(SIDE)


@_bomb
def webp_large_lossless() -> bytes:
    """6,000 x 6,000 lossless pixels of one colour."""
    return _lossless_webp(6000)


def _lossless_webp(side: int) -> bytes:
    ((_, still), *_rest) = split_chunks(zoo.encode(Image.new("RGBA", (16, 16)), "WEBP", lossless=True)[12:])
    bits = int.from_bytes(still[1:5], "little") & ~((1 << 28) - 1) | (side - 1) << 14 | (side - 1)
    return webp(riff_chunk(b"VP8L", still[:1] + bits.to_bytes(4, "little") + still[5:] + bytes(100)))


@_bomb
def webp_unknown_chunks() -> bytes:
    """3.9 million unknown chunks."""
    ((kind, still), *_rest) = split_chunks(zoo.encode(Image.new("RGB", (32, 24)), "WEBP")[12:])
    return webp(webp_header(32, 24), riff_chunk(kind, still), _fill(riff_chunk(b"junk")))


@_bomb
def webp_frames() -> bytes:
    """400,000 frames."""
    ((_, still), *_rest) = split_chunks(zoo.encode(Image.new("RGBA", (1, 1)), "WEBP", lossless=True)[12:])
    frame = riff_chunk(b"ANMF", bytes(12) + b"\1\0\0\0" + riff_chunk(b"VP8L", still))
    return webp(webp_header(1, 1, 18), riff_chunk(b"ANIM", bytes(6)), _fill(frame))


@_bomb
def webp_exif_fractions() -> bytes:
    """EXIF whose orientation consists of 3.8 million fractions."""
    ((kind, still), *_rest) = split_chunks(zoo.encode(Image.new("RGB", (32, 24)), "WEBP")[12:])
    exif = riff_chunk(b"EXIF", _exif_fractions(30_000_000))
    return webp(webp_header(32, 24, 8), riff_chunk(kind, still), exif)


# AVIF and HEIC


def _encode_avif(image: Image.Image, **options: object) -> bytes:
    return zoo.encode(image, "AVIF", speed=10, **options)


def _encode_heic(image: Image.Image) -> bytes:
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer)
    return buffer.getvalue()


def _heif_grid(content: bytes, side: int, tiles: int, repeat: bool) -> bytes:
    """Return an AVIF or HEIC file whose image is a grid.

    Args:
        content: file with an encoded tile.
        side: width and height of the tile.
        tiles: number of tiles per row and column.
        repeat: all tiles are the same item; otherwise they are different items with the same data.
    """
    boxes = dict(split_boxes(content))
    meta = dict(split_boxes(boxes[b"meta"][4:]))
    known = split_boxes(dict(split_boxes(meta[b"iprp"]))[b"ipco"])
    kind = b"av01" if b"av01" in meta[b"iinf"] else b"hvc1"
    count = 1 if repeat else tiles * tiles
    items = range(2, 2 + count)

    of_tile = [1 + index | 0x80 * (name in (b"av1C", b"hvcC")) for index, (name, _) in enumerate(known)]
    of_grid = [1 + index for index, (name, _) in enumerate(known) if name == b"pixi"] + [len(known) + 1]
    associations = [struct.pack(">HB", item, len(of_tile)) + bytes(of_tile) for item in items]
    associations.insert(0, struct.pack(">HB", 1, len(of_grid)) + bytes(of_grid))
    size = full_box(b"ispe", 0, struct.pack(">II", side * tiles, side * tiles))
    properties = box(
        b"iprp",
        box(b"ipco", *(box(*one) for one in known), size),
        full_box(b"ipma", 0, struct.pack(">I", count + 1), *associations),
    )
    entries = [full_box(b"infe", 2, struct.pack(">HH4s", 1, 0, b"grid"), b"\0")]
    entries += [full_box(b"infe", 2, struct.pack(">HH4s", item, 0, kind), b"\0") for item in items]
    parts = [items[0] if repeat else items[index] for index in range(tiles * tiles)]
    references = struct.pack(f">HH{len(parts)}H", 1, len(parts), *parts)
    grid = struct.pack(">BBBBII", 0, 1, tiles - 1, tiles - 1, side * tiles, side * tiles)
    data = boxes[b"mdat"]

    def head(start: int) -> bytes:
        places = [(1, start, len(grid)), *((item, start + len(grid), len(data)) for item in items)]
        extents = [struct.pack(">HHHHII", item, 0, 0, 1, offset, length) for item, offset, length in places]
        return box(b"ftyp", boxes[b"ftyp"]) + full_box(
            b"meta",
            0,
            box(b"hdlr", meta[b"hdlr"]),
            full_box(b"pitm", 0, b"\0\1"),
            full_box(b"iloc", 1, b"\x44\0", struct.pack(">H", count + 1), *extents),
            full_box(b"iinf", 0, struct.pack(">H", count + 1), *entries),
            full_box(b"iref", 0, box(b"dimg", references)),
            properties,
        )

    return head(len(head(0)) + 8) + box(b"mdat", grid, data)


def _shrink_declaration(content: bytes, side: int, declared: int) -> bytes:
    size = b"ispe" + struct.pack(">III", 0, side, side)
    assert size in content
    return content.replace(size, b"ispe" + struct.pack(">III", 0, declared, declared))


if features.check("avif"):

    @_bomb
    def avif_vast_grid() -> bytes:
        """13,000 x 13,000 pixels, a grid of 169 tiles that share their data."""
        return _heif_grid(_encode_avif(Image.new("RGB", (1000, 1000))), 1000, 13, repeat=False)

    @_bomb
    def avif_grid_of_one_tile() -> bytes:
        """13,000 x 13,000 pixels, a grid in which one tile is repeated."""
        return _heif_grid(_encode_avif(Image.new("RGB", (1000, 1000))), 1000, 13, repeat=True)

    @_bomb
    def avif_grid_with_flags() -> bytes:
        """The grid, with flags in the box of its size."""
        content = _heif_grid(_encode_avif(Image.new("RGB", (1000, 1000))), 1000, 13, repeat=False)
        return content.replace(b"ispe\0\0\0\0", b"ispe\0\0\0\1")

    @_bomb
    def avif_items() -> bytes:
        """1.3 million items."""
        numbers = np.arange(2, 1_300_000, dtype=">u4")
        entries = np.zeros((len(numbers), 23), np.uint8)
        entries[:] = np.frombuffer(full_box(b"infe", 3, bytes(4), bytes(2), b"junk", b"\0"), np.uint8)
        entries[:, 12:16] = numbers.view(np.uint8).reshape(-1, 4)
        items = full_box(b"iinf", 1, struct.pack(">I", len(entries)), entries.tobytes())
        return _with_box(b"iinf", lambda old: items)

    @_bomb
    def avif_properties() -> bytes:
        """3.8 million unknown properties."""
        flood = _fill(box(b"junk"))

        def add(old: bytes) -> bytes:
            boxes = split_boxes(old)
            return box(b"iprp", *(box(name, inner, flood if name == b"ipco" else b"") for name, inner in boxes))

        return _with_box(b"iprp", add)

    @_bomb
    def avif_free_boxes() -> bytes:
        """3.8 million boxes without content."""
        return _with_box(b"iinf", lambda old: box(b"iinf", old) + _fill(box(b"free")))

    @_bomb
    def avif_exif_fractions() -> bytes:
        """A rotated image with EXIF of 3.7 million fractions, which Pillow writes again when it opens the file."""
        exif = Image.Exif()
        exif[0x0112] = 6
        exif[0x010F] = "a" * 30_000_000
        content = _encode_avif(zoo.photo(32), exif=exif)
        ascii_ = struct.pack(">HHI", 0x010F, 2, 30_000_001)
        assert ascii_ in content
        return content.replace(ascii_, struct.pack(">HHI", 0x010F, 5, 3_750_000))

    def _with_box(kind: bytes, change: Callable[[bytes], bytes]) -> bytes:
        """Return an AVIF file in which a box of `meta` is replaced by the result of `change` on its content."""
        boxes = split_boxes(_encode_avif(zoo.photo(32)))
        old = dict(boxes)[b"meta"]

        def meta(growth: int) -> bytes:
            inner = []
            for name, content in split_boxes(old[4:]):
                if name == b"iloc":
                    places = struct.unpack(">HHHII", content[8:])
                    content = content[:8] + struct.pack(">HHHII", *places[:3], places[3] + growth, places[4])
                inner.append(change(content) if name == kind else box(name, content))
            return box(b"meta", old[:4], *inner)

        new = meta(len(meta(0)) - len(old) - 8)
        return b"".join(new if name == b"meta" else box(name, content) for name, content in boxes)


if find_spec("pillow_heif"):

    @_bomb
    def heic_vast_grid() -> bytes:
        """13,000 x 13,000 pixels, a grid of 169 tiles that share their data."""
        return _heif_grid(_encode_heic(Image.new("RGB", (1000, 1000))), 1000, 13, repeat=False)

    @_bomb
    def heic_grid_of_one_tile() -> bytes:
        """13,000 x 13,000 pixels, a grid in which one tile is repeated."""
        return _heif_grid(_encode_heic(Image.new("RGB", (1000, 1000))), 1000, 13, repeat=True)

    @_bomb
    def heic_grid_with_flags() -> bytes:
        """The grid, with flags in the box of its size."""
        content = _heif_grid(_encode_heic(Image.new("RGB", (1000, 1000))), 1000, 13, repeat=False)
        return content.replace(b"ispe\0\0\0\0", b"ispe\0\0\0\1")

    @_bomb
    def heic_grid_larger_than_declared() -> bytes:
        """A grid of 13,000 x 13,000 pixels that is declared as 1,300 x 1,300."""
        grid = _heif_grid(_encode_heic(Image.new("RGB", (1000, 1000))), 1000, 13, repeat=False)
        return _shrink_declaration(grid, 13_000, 1300)
