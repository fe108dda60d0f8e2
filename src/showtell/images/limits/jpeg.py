"""Limits for JPEG files (ITU-T T.81, annex B)."""

import os
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from showtell.images.limits.cost import MEGABYTE, require_at_most

MAX_SEGMENTS = 10_000
MAX_METADATA_BYTES = 16 * MEGABYTE
MAX_EXIF_BYTES = 1 * MEGABYTE
MAX_JUNK_BYTES = 65_536
MAX_QUANTIZATION_BYTES = 2000  # four tables of 16-bit values have 516 bytes
MAX_BLOCK_VISITS = 60_000_000  # blocks of 8 x 8 coefficients, times scans
MAX_ARITHMETIC_BLOCK_VISITS = 3_000_000  # arithmetic coding is slow, and no camera uses it
COEFFICIENT_BYTES = 128  # per block of a progressive JPEG

# A marker is FF xx; FF 00 and the restart markers FF D0 to FF D7 belong to the image data.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_START_OF_SCAN, _END_OF_IMAGE, _QUANTIZATION_TABLES = 0xDA, 0xD9, 0xDB
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ARITHMETIC = frozenset({0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_WITHOUT_LENGTH = frozenset({0x01, 0xC8, 0xD8, 0xD9, *range(0xF0, 0xFE)})
_HEAD_BYTES = 1024  # enough for a frame header of 255 components
_WINDOW_BYTES = 65_536


def check_jpeg(file: BinaryIO) -> int:
    """Limit the segments before the image data and the scans, and return the memory for the coefficients."""
    frame = _Frame()
    scans = 0
    before_data: list[_Segment] = []
    for number, segment in enumerate(_segments(file)):
        require_at_most(MAX_SEGMENTS, number, "JPEG segments")
        if segment.marker in _FRAMES:
            frame = max(frame, _Frame.parse(segment), key=lambda frame: frame.blocks)
        elif segment.marker == _QUANTIZATION_TABLES:
            require_at_most(MAX_QUANTIZATION_BYTES, segment.size, "bytes of JPEG quantization tables")
        elif segment.marker == _START_OF_SCAN:
            scans += 1
            if scans == 1:
                _check_metadata(before_data)
                require_at_most(frame.max_visits, frame.blocks, "JPEG blocks")
                if not frame.needs_all_scans(segment):
                    return 0
            require_at_most(frame.max_visits, scans * frame.blocks, "JPEG blocks in all scans")
        elif scans and segment.marker == _END_OF_IMAGE:
            break
        if not scans:
            before_data.append(segment)
    _check_metadata(before_data)
    return frame.blocks * COEFFICIENT_BYTES


def _check_metadata(segments: Sequence["_Segment"]) -> None:
    exif = sum(segment.size for segment in segments if segment.content.startswith(b"Exif"))
    require_at_most(MAX_METADATA_BYTES, sum(segment.size for segment in segments), "bytes of JPEG metadata")
    require_at_most(MAX_EXIF_BYTES, exif, "bytes of EXIF")
    require_at_most(MAX_JUNK_BYTES, sum(segment.skipped for segment in segments), "bytes between JPEG segments")


@dataclass(frozen=True)
class _Segment:
    """A marker segment: its marker, its size, its first bytes, and the number of bytes skipped before it."""

    marker: int
    size: int
    content: bytes
    skipped: int


@dataclass(frozen=True)
class _Frame:
    """A frame header.

    Attributes:
        blocks: number of 8 x 8 blocks of all components.
        components: number of components.
        is_progressive: whether the coefficients come in several scans.
        max_visits: maximum number of blocks in all scans.
    """

    blocks: int = 0
    components: int = 0
    is_progressive: bool = False
    max_visits: int = MAX_BLOCK_VISITS

    @classmethod
    def parse(cls, segment: _Segment) -> "_Frame":
        height, width, components = struct.unpack(">HHB", segment.content[1:6])
        factors = [(factor >> 4, factor & 15) for factor in segment.content[7 : 6 + 3 * components : 3]]
        horizontal, vertical = (max((pair[axis] for pair in factors), default=1) or 1 for axis in (0, 1))
        area = sum(x * y for x, y in factors) / (horizontal * vertical)
        blocks = (width // 8 + horizontal) * (height // 8 + vertical) * area
        max_visits = MAX_ARITHMETIC_BLOCK_VISITS if segment.marker in _ARITHMETIC else MAX_BLOCK_VISITS
        return cls(round(blocks), components, segment.marker in _PROGRESSIVE, max_visits)

    def needs_all_scans(self, first_scan: _Segment) -> bool:
        """Return whether the decoder must read all scans before the first pixel."""
        return self.is_progressive or first_scan.content[:1] != bytes([self.components])


def _segments(file: BinaryIO) -> Iterator[_Segment]:
    file.seek(2)
    while (found := _next_marker(file)) is not None:
        marker, skipped = found
        if marker in _WITHOUT_LENGTH:
            yield _Segment(marker, 0, b"", skipped)
            continue
        size = max(0, int.from_bytes(file.read(2)) - 2)
        content = file.read(min(size, _HEAD_BYTES))
        file.seek(size - len(content), os.SEEK_CUR)
        yield _Segment(marker, size, content, skipped)


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
