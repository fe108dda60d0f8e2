"""JPEG bombs: floods of markers and scans, EXIF, and vast images."""

import struct
from collections.abc import Iterator

import numpy as np
import zoo
from image_formats import jpeg, jpeg_segment, split_jpeg

from image_bombs.registry import LARGE, SIDE, bomb, exif_fractions, fill, slow_bomb


def _small_jpeg(**options: object) -> tuple[list[bytes], bytes]:
    return split_jpeg(zoo.encode(zoo.photo(64), "JPEG", **options))


def _resized(segments: list[bytes], width: int, height: int) -> list[bytes]:
    """Change the dimensions in the frame header."""
    return [
        segment[:5] + struct.pack(">HH", height, width) + segment[9:] if 0xC0 <= segment[1] <= 0xC2 else segment
        for segment in segments
    ]


@bomb
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


@bomb
def jpeg_scan_flood() -> bytes:
    """Two million scan headers."""
    segments, scans = _small_jpeg(progressive=True)
    tables = b"".join(_huffman_tables(scans))
    return jpeg(segments, tables + fill(jpeg_segment(0xDA, b"\1\1\0\1\x3f\0")) + b"\xff\xd9")


@bomb
def jpeg_empty_markers() -> bytes:
    """8 million empty APP0 markers."""
    segments, scans = _small_jpeg()
    return jpeg([fill(jpeg_segment(0xE0)), *segments], scans)


@bomb
def jpeg_comments() -> bytes:
    """5 million comments."""
    segments, scans = _small_jpeg()
    return jpeg([fill(jpeg_segment(0xFE, b"ab")), *segments], scans)


@bomb
def jpeg_huffman_markers() -> bytes:
    """8 million empty DHT markers, which Pillow skips one by one."""
    segments, scans = _small_jpeg()
    return jpeg([fill(jpeg_segment(0xC4)), *segments], scans)


@bomb
def jpeg_restart_intervals_between_scans() -> bytes:
    """5 million DRI markers after the image data of the first of several scans."""
    segments, scans = _small_jpeg(progressive=True)
    return jpeg(segments, scans[:-2] + fill(jpeg_segment(0xDD, b"\0\1")) + b"\xff\xd9")


@bomb
def jpeg_quantization_tables() -> bytes:
    """440,000 quantization tables."""
    segments, scans = _small_jpeg()
    return jpeg([fill(jpeg_segment(0xDB, bytes([0]) + bytes([1]) * 64)), *segments], scans)


@bomb
def jpeg_fill_bytes() -> bytes:
    """31 million fill bytes before a marker."""
    segments, scans = _small_jpeg()
    return jpeg([segments[0], fill(b"\xff"), *segments[1:]], scans)


@bomb
def jpeg_junk() -> bytes:
    """31 million bytes of junk before a marker."""
    segments, scans = _small_jpeg()
    return jpeg([segments[0], fill(b"\0"), *segments[1:]], scans)


@bomb
def jpeg_small_exif_segments() -> bytes:
    """EXIF in a million segments, which Pillow joins one by one."""
    segments, scans = _small_jpeg()
    return jpeg([*segments, fill(jpeg_segment(0xE1, b"Exif\0\0" + bytes(20)))], scans)


@bomb
def jpeg_exif_fractions() -> bytes:
    """EXIF of 15 MB whose orientation consists of two million fractions."""
    segments, scans = _small_jpeg()
    exif = exif_fractions(15_000_000)
    pieces = [exif[start : start + 65_000] for start in range(0, len(exif), 65_000)]
    return jpeg([*segments, *(jpeg_segment(0xE1, b"Exif\0\0" + piece) for piece in pieces)], scans)


@bomb
def jpeg_photoshop_resources() -> bytes:
    """2 million Photoshop resources."""
    segments, scans = _small_jpeg()
    resource = b"8BIM\4\4\0\0\0\0\0\0"
    return jpeg([*segments, fill(jpeg_segment(0xED, b"Photoshop 3.0\0" + resource * 5400))], scans)


@bomb
def jpeg_progressive_coefficients() -> bytes:
    """A progressive file of less than 1 kB, whose coefficients take 1 GB."""
    segments, scans = _small_jpeg(progressive=True, subsampling=0)
    return jpeg(_resized(segments, SIDE, SIDE), scans)


@bomb
def jpeg_progressive_with_short_frame() -> bytes:
    """10,500 x 10,500 progressive pixels, and an incomplete frame header after the first scan."""
    segments, scans = _small_jpeg(progressive=True, subsampling=0)
    second = scans.index(b"\xff\xda", 2)
    return jpeg(_resized(segments, LARGE, LARGE), scans[:second] + b"\xff\xc2\0\3\x08" + scans[second:])


@bomb
def jpeg_baseline_without_data() -> bytes:
    """A baseline file of less than 1 kB with 170 million pixels, narrow enough to be decoded at full scale."""
    segments, scans = _small_jpeg(subsampling=0)
    return jpeg(_resized(segments, 65_500, 440), scans)


@bomb
def jpeg_cmyk_progressive() -> bytes:
    """Four components of 13,000 x 13,000 coefficients."""
    segments, scans = split_jpeg(zoo.encode(zoo.photo(64).convert("CMYK"), "JPEG", progressive=True))
    return jpeg(_resized(segments, SIDE, SIDE), scans)


@bomb
def jpeg_refinement_scans() -> bytes:
    """80 refinement scans with runs of empty blocks: each coefficient is visited in each scan."""
    segments, _ = split_jpeg(zoo.encode(zoo.photo(64).convert("L"), "JPEG", progressive=True))
    segments = _resized([segment for segment in segments if segment[1] != 0xC4], 12_000, 12_000)
    run = jpeg_segment(0xC4, b"\x10\1" + bytes(15) + b"\xe0")  # the code 0 means 16,384 empty blocks or more
    runs = 12_000 * 12_000 // 64 // 16_384 + 1
    scan = jpeg_segment(0xDA, b"\1\1\0\1\x3f\x10") + bytes(runs * 15 // 8 + 1)
    return jpeg([*segments, run], scan * 80 + b"\xff\xd9")


@slow_bomb
def jpeg_arithmetic() -> bytes:
    """13,000 x 13,000 arithmetic-coded pixels; each restart interval, of one row, is decoded from zeros."""
    return _arithmetic_jpeg(SIDE, 0xC9, jpeg_segment(0xDD, struct.pack(">H", SIDE // 8)), b"\3\1\0\2\0\3\0\0\x3f\0")


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
