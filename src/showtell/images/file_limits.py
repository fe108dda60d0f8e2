"""Limits on the cost of decoding an image file.

A few kilobytes can keep a decoder busy for minutes or fill the memory: thousands of empty scans in a JPEG, millions of
chunks in a PNG, one strip per row in a TIFF. Each `check_` function reads the head of a file and raises CostError if
decoding would take too long. It returns the bytes of memory that the decoder needs in addition to the decoded pixels.
Damaged files pass the checks, because the decoder reports them.
"""

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MEGABYTE = 1_000_000
MAX_MEMORY = 450 * MEGABYTE
# Files larger than 56 MB may use more memory, in proportion to their size. Scans of paper are such files.
MAX_MEMORY_PER_FILE_BYTE = 8

MAX_JPEG_SEGMENTS = 10_000
MAX_JPEG_METADATA = 16 * MEGABYTE
MAX_JPEG_JUNK = 65_536
MAX_QUANTIZATION_BYTES = 2000  # four tables of 16-bit values have 516 bytes
MAX_BLOCK_VISITS = 200_000_000  # blocks of 8 x 8 coefficients, times scans
COEFFICIENT_BYTES = 128  # per block of a progressive JPEG

MAX_PNG_CHUNKS = 10_000
MIN_PNG_CHUNK_BYTES = 256  # average size of the chunks of a file with more than MAX_PNG_CHUNKS
MAX_COMPRESSED_PNG_TEXTS = 500  # each may unpack to 1 MB

MAX_GIF_BLOCKS = 100_000
MAX_RLE_BYTES = 2 * MEGABYTE  # of a BMP, whose run-length decoder is written in Python
MAX_TIFF_TAGS = 4096
MAX_TIFF_VALUES = 1_000_000
MAX_TIFF_STRIPS = 65_536

# Measured memory per pixel, besides the decoded pixels.
WEBP_BYTES_PER_PIXEL = 12
AV1_BYTES_PER_PIXEL = 8
HEVC_BYTES_PER_PIXEL = 5


class CostError(Exception):
    """Decoding an image file would take too much time or memory."""


def check_memory(needed: int, file_bytes: int) -> None:
    """Raise CostError if decoding a file needs too many bytes of memory."""
    limit = max(MAX_MEMORY, MAX_MEMORY_PER_FILE_BYTE * file_bytes)
    if needed > limit:
        raise CostError(f"{needed // MEGABYTE:,} MB of memory exceed the limit of {limit // MEGABYTE:,} MB")


def check_jpeg(file: BinaryIO) -> int:
    """Limit the segments before the image data, and the work of a progressive image."""
    frame = _JpegFrame()
    scans = metadata = junk = 0
    for number, segment in enumerate(_jpeg_segments(file)):
        _require(number, MAX_JPEG_SEGMENTS, "JPEG segments")
        if segment.is_frame:
            frame = _JpegFrame.parse(segment)
        elif segment.marker == _START_OF_SCAN:
            scans += 1
            if scans == 1 and not frame.needs_all_scans(segment):
                return 0
            _require(scans * frame.blocks, MAX_BLOCK_VISITS, "JPEG blocks in all scans")
        elif scans and segment.marker == _END_OF_IMAGE:
            break
        if not scans:
            metadata += segment.size
            junk += segment.skipped
            _require(metadata, MAX_JPEG_METADATA, "bytes of JPEG metadata")
            _require(junk, MAX_JPEG_JUNK, "bytes between JPEG segments")
        if segment.marker == _QUANTIZATION_TABLES:
            _require(segment.size, MAX_QUANTIZATION_BYTES, "bytes of JPEG quantization tables")
    return frame.blocks * COEFFICIENT_BYTES


def check_png(file: BinaryIO) -> int:
    """Limit the number of chunks."""
    max_chunks = max(MAX_PNG_CHUNKS, _size(file) // MIN_PNG_CHUNK_BYTES)
    compressed = chunks = 0
    file.seek(8)
    while len(head := file.read(8)) == 8 and (name := head[4:]) != b"IEND":
        chunks += 1
        compressed += name in (b"zTXt", b"iTXt", b"iCCP")
        _require(chunks, max_chunks, "PNG chunks")
        _require(compressed, MAX_COMPRESSED_PNG_TEXTS, "compressed PNG texts")
        file.seek(int.from_bytes(head[:4]) + 4, os.SEEK_CUR)
    return 0


def check_gif(file: BinaryIO) -> int:
    """Limit the number of blocks before the first frame."""
    file.seek(10)
    flags = _byte(file)
    file.seek(13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
    blocks = 0
    while (kind := file.read(1)) not in (b"", b";", b","):
        blocks += 1
        if kind == b"!":
            file.seek(1, os.SEEK_CUR)
            while size := _byte(file):
                blocks += 1
                file.seek(size, os.SEEK_CUR)
                _require(blocks, MAX_GIF_BLOCKS, "GIF blocks before the image")
        _require(blocks, MAX_GIF_BLOCKS, "GIF blocks before the image")
    return 0


def check_bmp(file: BinaryIO) -> int:
    """Limit the size of run-length encoded files."""
    file.seek(14)
    header_size, width, height, _, _, compression = struct.unpack("<IiiHHI", file.read(20))
    if header_size == 12 or compression not in (1, 2):
        return 0
    _require(_size(file), MAX_RLE_BYTES, "bytes of run-length encoded BMP")
    return 2 * abs(width * height)


def check_webp(file: BinaryIO) -> int:
    """Return the memory of the canvas, which is allocated when the file is opened."""
    file.seek(12)
    head = file.read(18)
    if head[:4] == b"VP8X":
        width, height = (int.from_bytes(head[start : start + 3], "little") + 1 for start in (12, 15))
    elif head[:4] == b"VP8L":
        bits = int.from_bytes(head[9:13], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (int.from_bytes(head[start : start + 2], "little") & 0x3FFF for start in (14, 16))
    return width * height * WEBP_BYTES_PER_PIXEL


def check_heif(file: BinaryIO) -> int:
    """Return the memory for the largest image of an AVIF or HEIC file."""
    file.seek(0)
    content = file.read()
    sizes = (struct.unpack(">II", match[1]) for match in re.finditer(rb"ispe\0{4}(.{8})", content, re.DOTALL))
    pixels = max((width * height for width, height in sizes), default=0)
    return pixels * (AV1_BYTES_PER_PIXEL if b"av01" in content else HEVC_BYTES_PER_PIXEL)


def check_tiff(file: BinaryIO) -> int:
    """Limit the tags and strips of the first image, and return the memory for a strip and a rotated copy."""
    tags = _TiffTags(file)
    strips = max(tags.count(_TIFF_STRIP_OFFSETS), tags.count(_TIFF_TILE_OFFSETS))
    _require(strips, MAX_TIFF_STRIPS, "TIFF strips")
    width, height = tags.value(_TIFF_WIDTH), tags.value(_TIFF_HEIGHT)
    if tags.count(_TIFF_TILE_OFFSETS):
        strip_pixels = tags.value(_TIFF_TILE_WIDTH) * tags.value(_TIFF_TILE_HEIGHT)
    else:
        strip_pixels = width * min(height, tags.value(_TIFF_ROWS_PER_STRIP, height))
    bits = max(tags.value(_TIFF_BITS_PER_SAMPLE, 1) * tags.value(_TIFF_SAMPLES_PER_PIXEL, 1), 1)
    is_rotated = tags.value(_TIFF_ORIENTATION, 1) != 1
    return strip_pixels * bits // 8 + 4 * width * height * is_rotated


def _require(value: int, limit: int, unit: str) -> None:
    if value > limit:
        raise CostError(f"more than {limit:,} {unit}")


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _byte(file: BinaryIO) -> int:
    """Return the next byte, or 0 at the end of the file."""
    return int.from_bytes(file.read(1))


# JPEG: ITU-T T.81, annex B. Marker FF xx; FF 00 and the restart markers FF D0 to FF D7 belong to the image data.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_START_OF_SCAN, _END_OF_IMAGE, _QUANTIZATION_TABLES = 0xDA, 0xD9, 0xDB
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_WITHOUT_LENGTH = frozenset({0x01, 0xC8, 0xD8, 0xD9, *range(0xF0, 0xFE)})
_JPEG_HEAD_BYTES = 1024  # enough for a frame header of 255 components
_WINDOW_BYTES = 65_536


@dataclass(frozen=True)
class _JpegSegment:
    """A marker segment: its marker, its size, its first bytes, and the number of bytes skipped before it."""

    marker: int
    size: int
    content: bytes
    skipped: int

    @property
    def is_frame(self) -> bool:
        return self.marker in _FRAMES


@dataclass(frozen=True)
class _JpegFrame:
    """A frame header.

    Attributes:
        blocks: number of 8 x 8 blocks of all components.
        components: number of components.
        is_progressive: whether the coefficients come in several scans.
    """

    blocks: int = 0
    components: int = 0
    is_progressive: bool = False

    @classmethod
    def parse(cls, segment: _JpegSegment) -> "_JpegFrame":
        height, width, components = struct.unpack(">HHB", segment.content[1:6])
        factors = [(factor >> 4, factor & 15) for factor in segment.content[7 : 6 + 3 * components : 3]]
        horizontal, vertical = (max((pair[axis] for pair in factors), default=1) or 1 for axis in (0, 1))
        area = sum(x * y for x, y in factors) / (horizontal * vertical)
        blocks = (width // 8 + horizontal) * (height // 8 + vertical) * area
        return cls(round(blocks), components, segment.marker in _PROGRESSIVE)

    def needs_all_scans(self, first_scan: _JpegSegment) -> bool:
        """Return whether the decoder reads all scans before the first pixel, because one has not all components."""
        return self.is_progressive or first_scan.content[:1] != bytes([self.components])


def _jpeg_segments(file: BinaryIO) -> Iterator[_JpegSegment]:
    file.seek(2)
    while (found := _next_marker(file)) is not None:
        marker, skipped = found
        if marker in _WITHOUT_LENGTH:
            yield _JpegSegment(marker, 0, b"", skipped)
            continue
        size = max(0, int.from_bytes(file.read(2)) - 2)
        content = file.read(min(size, _JPEG_HEAD_BYTES))
        file.seek(size - len(content), os.SEEK_CUR)
        yield _JpegSegment(marker, size, content, skipped)


def _next_marker(file: BinaryIO) -> tuple[int, int] | None:
    """Return the next marker, and the number of bytes before it. Return None at the end of the file."""
    skipped = 0
    window = file.read(2)  # most segments follow each other directly
    while window:
        if match := _MARKER.search(window):
            file.seek(match.end() - len(window), os.SEEK_CUR)
            return match[1][0], skipped + match.start()
        overlap = len(window) > 1 and window.endswith(b"\xff")
        file.seek(-overlap, os.SEEK_CUR)
        skipped += len(window) - overlap
        window = file.read(_WINDOW_BYTES)
    return None


# TIFF 6.0 and BigTIFF.
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS_PER_SAMPLE, _TIFF_SAMPLES_PER_PIXEL = 256, 257, 258, 277
_TIFF_STRIP_OFFSETS, _TIFF_ROWS_PER_STRIP, _TIFF_ORIENTATION = 273, 278, 274
_TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT, _TIFF_TILE_OFFSETS = 322, 323, 324
_TIFF_BYTES, _TIFF_TEXT, _TIFF_UNDEFINED = 1, 2, 7
_TIFF_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}  # type -> code of struct


class _TiffTags:
    """The tags of the first image of a TIFF file. Raises CostError if there are too many tags or values."""

    def __init__(self, file: BinaryIO):
        self._file = file
        file.seek(0)
        head = file.read(16)
        self._order = "<" if head.startswith(b"I") else ">"
        self._is_big = 43 in head[2:4]
        self._pointer = self._order + ("Q" if self._is_big else "I")
        (offset,) = struct.unpack_from(self._pointer, head, 8 if self._is_big else 4)
        file.seek(offset)
        count_format = self._order + ("Q" if self._is_big else "H")
        (count,) = struct.unpack(count_format, file.read(struct.calcsize(count_format)))
        _require(count, MAX_TIFF_TAGS, "TIFF tags")
        self._tags: dict[int, tuple[int, int, bytes]] = {}
        entry = struct.Struct(self._order + ("HHQ8s" if self._is_big else "HHI4s"))
        for tag, type_, values, data in entry.iter_unpack(_whole_entries(file.read(count * entry.size), entry.size)):
            if type_ not in (_TIFF_BYTES, _TIFF_TEXT, _TIFF_UNDEFINED):
                _require(values, MAX_TIFF_VALUES, f"values of TIFF tag {tag}")
            self._tags.setdefault(tag, (type_, values, data))

    def count(self, tag: int) -> int:
        """Return the number of values of a tag."""
        return self._tags.get(tag, (0, 0, b""))[1]

    def value(self, tag: int, default: int = 0) -> int:
        """Return the first value of a tag, or a default if it is not an integer."""
        type_, count, data = self._tags.get(tag, (0, 0, b""))
        if type_ not in _TIFF_INTEGERS:
            return default
        code = self._order + _TIFF_INTEGERS[type_]
        if count * struct.calcsize(code) > len(data):
            self._file.seek(struct.unpack(self._pointer, data)[0])
            data = self._file.read(struct.calcsize(code))
        return struct.unpack_from(code, data)[0] if len(data) >= struct.calcsize(code) else default


def _whole_entries(content: bytes, size: int) -> bytes:
    return content[: len(content) // size * size]
