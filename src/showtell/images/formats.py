"""The supported image formats. Files of other formats are never passed to a decoder."""

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from showtell.images import limits

# RAW files of Canon (CR3), Fujifilm, Olympus and Panasonic. RAW files of other makers start like TIFF files.
_RAW = re.compile(rb".{4}ftypcrx |FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0", re.DOTALL)
_EPS = re.compile(rb"%!PS|\xc5\xd0\xd3\xc6")
_HEIC = re.compile(rb".{4}ftyp(hei|hev|mif1|msf1)", re.DOTALL)


@dataclass(frozen=True)
class _Format:
    """A supported image format.

    Attributes:
        signature: pattern of the first bytes of a file.
        decoders: Pillow's names of the decoders to try.
        check: rejects files that cost too much to decode, and returns the memory that the decoder needs.
    """

    signature: re.Pattern[bytes]
    decoders: tuple[str, ...]
    check: Callable[[BinaryIO], int]


# Pillow supports many more formats. Some of their decoders are slow, and EPS files are programs that Ghostscript runs.
_FORMATS = (
    _Format(re.compile(rb"\xff\xd8\xff"), ("JPEG",), limits.check_jpeg),
    _Format(re.compile(rb"\x89PNG\r\n\x1a\n"), ("PNG",), limits.check_png),
    _Format(re.compile(rb"RIFF.{4}WEBP", re.DOTALL), ("WEBP",), limits.check_webp),
    _Format(re.compile(rb"GIF8[79]a"), ("GIF",), limits.check_gif),
    _Format(re.compile(rb"BM"), ("BMP",), limits.check_bmp),
    _Format(re.compile(rb"II[*+]\0|MM\0[*+]"), ("TIFF",), limits.check_tiff),
    _Format(re.compile(rb".{4}ftypavi[fs]", re.DOTALL), ("AVIF",), limits.check_heif),
    _Format(_HEIC, ("AVIF", "HEIF"), limits.check_heif),
)
# Decoders that Pillow does not load by default. Pillow itself would load them with the decoders of all formats.
_PLUGINS = {"WEBP": "PIL.WebPImagePlugin", "TIFF": "PIL.TiffImagePlugin", "AVIF": "PIL.AvifImagePlugin"}
# Bytes per pixel of an image in memory; 4 for all other modes.
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
# Measured overhead of each row. It matters for images that are one pixel wide.
_ROW_BYTES = 50
# Files that need more memory in bytes are decoded one at a time.
LARGE_IMAGE_MEMORY = 100_000_000
_large_image_lock = Lock()


@contextmanager
def open_image(source: Path | bytes, at_least: int | None = None) -> Iterator[tuple[Image.Image, int]]:
    """Yield an image file with its header read and its pixels not yet decoded, and its number of pixels.

    HEIC files need pillow-heif.

    Args:
        source: a file, or its content.
        at_least: if given, a JPEG may be decoded at a reduced scale with at least this many pixels per side.

    Raises:
        CostError: if decoding would take too much time or memory.
        UnidentifiedImageError: if the format is not one of those that showtell decodes.
        OSError, ValueError, ...: any error of Pillow.
    """
    with BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        format_ = _detect_format(file.read(16))
        file_bytes = limits.file_size(file)
        try:
            decoder_bytes = format_.check(file)
        except struct.error:
            raise ValueError("the header is incomplete") from None
        limits.check_memory(decoder_bytes, file_bytes)
        file.seek(0)
        with Image.open(file, formats=_load_decoders(format_)) as image:
            pixels = image.width * image.height
            if at_least is not None:
                image.draft("RGB", (at_least, at_least))
            if image.format == "TIFF":
                limits.check_strips(image.tile)
            row_bytes = image.width * _PIXEL_BYTES.get(image.mode, 4) + _ROW_BYTES
            needed = decoder_bytes + image.height * row_bytes
            limits.check_memory(needed, file_bytes)
            with _large_image_lock if needed > LARGE_IMAGE_MEMORY else nullcontext():
                yield image, pixels


def describe_unknown_format(source: Path | bytes | Image.Image) -> str:
    """Return why the format of a file is not supported."""
    if isinstance(source, Image.Image):
        return f"{source.format} images are not supported; export the image as PNG"
    head = source[:16] if isinstance(source, bytes) else _read_head(source)
    if not head:
        return "the file is empty"
    if _HEIC.match(head) and _has_heic_decoder():
        return "damaged or unreadable (the HEIC decoder does not support it)"
    if _HEIC.match(head):
        return "HEIC needs a decoder; install it with: pip install 'showtell[heic]', or export the image as JPEG"
    if any(format_.signature.match(head) for format_ in _FORMATS):
        return "damaged or unreadable (the header is invalid)"
    if _RAW.match(head):
        return "camera RAW files are not supported; export the image as JPEG"
    if _EPS.match(head):
        return "EPS files are not supported: they are programs; export the image as PNG"
    return "not an image, or an unsupported image format"


def _detect_format(head: bytes) -> _Format:
    for format_ in _FORMATS:
        if format_.signature.match(head):
            return format_
    raise UnidentifiedImageError


def _load_decoders(format_: _Format) -> list[str]:
    """Register the decoders of a format with Pillow, and return the names of those that are installed."""
    for name in format_.decoders:
        if name in _PLUGINS:
            import_module(_PLUGINS[name])
    return [name for name in format_.decoders if name != "HEIF" or _has_heic_decoder()]


@cache
def _has_heic_decoder() -> bool:
    """Register the HEIC decoder of pillow-heif with Pillow. Return False if pillow-heif is not installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _read_head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(16)
