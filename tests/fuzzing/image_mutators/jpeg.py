"""JPEG and MPO: marker segments, frame headers, scans and metadata."""

import struct

import numpy as np
from image_formats import jpeg, jpeg_segment, split_jpeg

from image_mutators import numbers
from image_mutators.tiff import random_exif

# APPn, COM, DRI, DHT, DQT, DNL, DAC, SOI, reserved markers and restarts.
_MARKERS = (*range(0xE0, 0xF0), 0xFE, 0xDD, 0xC4, 0xDB, 0xDC, 0xCC, 0xD8, 0xF0, 0x01, 0xD0)
_HEADS = (
    b"",
    b"Exif\0\0",
    b"ICC_PROFILE\0\1\1",
    b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 3,
    b"MPF\0",
    b"Adobe",
    b"JFIF\0",
)
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))


def mutate(content: bytes, generator: np.random.Generator) -> bytes:
    """Change segments and scans of a JPEG file."""
    segments, scans = split_jpeg(content)
    operations = (_insert, _change_frame, _resize, _flood, _describe, _lie_about_frames, numbers.rearrange)
    for _ in range(int(generator.integers(1, 5))):
        if generator.random() < 0.25:
            scans = _change_scans(scans, generator)
        else:
            numbers.choose(operations, generator)(segments, generator)
    return jpeg(segments, scans)


def _insert(segments: list[bytes], generator: np.random.Generator) -> None:
    segments.insert(int(generator.integers(len(segments) + 1)), _segment(generator, 6e4))


def _flood(segments: list[bytes], generator: np.random.Generator) -> None:
    segments.insert(int(generator.integers(len(segments) + 1)), numbers.repeat(_segment(generator, 50), generator))


def _segment(generator: np.random.Generator, top: float) -> bytes:
    if generator.random() < 0.1:
        return bytes([numbers.choose((0xFF, 0, 0x80), generator)])  # fill bytes and junk
    content = numbers.choose(_HEADS, generator) + numbers.blob(generator, top)
    return jpeg_segment(numbers.choose(_MARKERS, generator), content[:65_000])


def _find_frame(segments: list[bytes]) -> int | None:
    return next((place for place, one in enumerate(segments) if one[1:2] and one[1] in _FRAMES and len(one) > 10), None)


def _resize(segments: list[bytes], generator: np.random.Generator) -> None:
    if (place := _find_frame(segments)) is not None:
        sides = struct.pack(">HH", *(min(numbers.side(generator), 65_535) for _ in range(2)))
        segments[place] = segments[place][:5] + sides + segments[place][9:]


def _change_frame(segments: list[bytes], generator: np.random.Generator) -> None:
    """Change the kind of the frame, or a byte of it, such as the sampling factors."""
    if (place := _find_frame(segments)) is not None:
        frame = bytearray(segments[place])
        if generator.random() < 0.5:
            frame[1] = numbers.choose(_FRAMES, generator)
        else:
            values = (0, 1, 2, 3, 4, 8, 0x11, 0x14, 0x41, 0x44, 0xFF)
            frame[generator.integers(4, len(frame))] = numbers.choose(values, generator)
        segments[place] = bytes(frame)


def _describe(segments: list[bytes], generator: np.random.Generator) -> None:
    """Insert EXIF, in several segments if it is long."""
    exif, step = random_exif(generator), numbers.count(generator, 65_000)
    step = max(step, len(exif) // 2000)
    pieces = (exif[start : start + step] for start in range(0, len(exif), step))
    segments[1:1] = [jpeg_segment(0xE1, b"Exif\0\0" + piece[:65_000]) for piece in pieces]


def _lie_about_frames(segments: list[bytes], generator: np.random.Generator) -> None:
    """Change a number of the index of an MPO file."""
    for place, segment in enumerate(segments):
        if segment[4:8] == b"MPF\0" and len(segment) > 12:
            changed = bytearray(segment)
            start = int(generator.integers(8, len(segment) - 4))
            changed[start : start + 4] = struct.pack(">I", numbers.number(generator))
            segments[place] = bytes(changed)


def _change_scans(scans: bytes, generator: np.random.Generator) -> bytes:
    end = scans[-2:]
    match generator.integers(4):
        case 0:  # empty scans
            scan = bytes(
                [1, 1, 0, *numbers.choose(((0, 0), (1, 63), (1, 5), (63, 63)), generator), generator.integers(256)]
            )
            return scans[:-2] + numbers.repeat(jpeg_segment(0xDA, scan) + numbers.blob(generator, 10), generator) + end
        case 1:
            return numbers.repeat(scans[:-2], generator) + end
        case 2:
            return scans[:-2] + numbers.repeat(_segment(generator, 20), generator) + end
        case _:
            place = int(generator.integers(len(scans)))
            return scans[:place] + numbers.blob(generator) + scans[place:]
