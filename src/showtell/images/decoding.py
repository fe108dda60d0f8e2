"""Decode image files safely, to upright RGB images."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from showtell.errors import ImageError
from showtell.images.formats import describe_unknown_format, open_image
from showtell.images.limits import MAX_EXIF_BYTES, CostError, check_memory
from showtell.images.sources import ImageSource, read_source
from showtell.utils.text import one_line

# Just below Pillow's own limit, so that this limit applies first.
MAX_PIXELS = 175_000_000
# Larger images are converted in strips, so that no second copy is in memory.
LARGE_IMAGE_PIXELS = 25_000_000
STRIP_PIXELS = 1_000_000

# EXIF orientation -> the operation that makes the image upright.
_TURNS: dict[int | None, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(source: ImageSource, at_least: int | None = None) -> Image.Image:
    """Decode an image to RGB, upright by its EXIF orientation, with transparency over white.

    Args:
        source: any `ImageSource`. For an animation, the first frame is used.
        at_least: if given, a JPEG or a large image may be decoded at a reduced scale with at least this many pixels per
            side, which is several times faster and needs less memory.

    Raises:
        ImageError: if the file does not exist, is not an image, is damaged, or costs too much to decode: it has more
            than MAX_PIXELS pixels, or exceeds a limit in `showtell.images.limits`.
        TypeError: if the source is not an `ImageSource`.
    """
    source = read_source(source)
    if isinstance(source, np.ndarray):
        return _from_array(source)
    name = repr(str(source)) if isinstance(source, Path) else "the image"
    try:
        if isinstance(source, Image.Image):
            return _decode_opened(source, name, at_least=None)  # a reduced scale would change the caller's image
        if isinstance(source, Path) and not source.is_file():  # a FIFO or device would block forever
            raise ImageError(f"{name}: {_describe_non_file(source)}")
        with open_image(source, at_least) as (image, _):
            return _decode_opened(image, name, at_least)
    except ImageError:
        raise
    except Exception as error:  # decoders raise any exception on damaged input
        raise ImageError(f"{name}: {_describe_failure(error, source)}") from None


def _describe_failure(error: Exception, source: Path | bytes | Image.Image) -> str:
    match error:
        case UnidentifiedImageError():
            return describe_unknown_format(source)
        case CostError():
            return f"too costly to decode: {error}; resize the image, or save it as a JPEG file"
        case Image.DecompressionBombError():
            return f"too large: more than {MAX_PIXELS:,} pixels; resize the image"
        case MemoryError():
            return "too large for the memory of this machine"
    return f"damaged or unreadable ({one_line(error) or type(error).__name__})"


def _from_array(pixels: np.ndarray) -> Image.Image:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ImageError(f"the image: an array must be (H, W, 3) uint8, not {pixels.shape} {pixels.dtype}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _decode_opened(image: Image.Image, name: str, at_least: int | None) -> Image.Image:
    if image.format == "EPS":  # an image that the caller opened; loading it would run a program
        raise UnidentifiedImageError
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(
            f"{name}: too large: {image.width} x {image.height} is more than {MAX_PIXELS:,} pixels; resize the image"
        )
    factor = 1 if at_least is None else max(1, min(image.size) // (2 * at_least))
    if factor == 1 and at_least is not None:  # the result has the size of the image
        check_memory(2 * 4 * image.width * image.height, 0)
    image.load()
    if image.width * image.height <= LARGE_IMAGE_PIXELS or at_least is None:
        return _to_rgb(_upright(image, image), _white(image))
    return _upright(image, _reduced(image, factor))


def _describe_non_file(path: Path) -> str:
    if path.is_dir():
        return "a folder, not an image" if os.access(path, os.R_OK | os.X_OK) else "a folder without read permission"
    if path.exists():
        return "not a regular file"
    return "broken symbolic link" if path.is_symlink() else "no such file"


def _upright(original: Image.Image, image: Image.Image) -> Image.Image:
    """Return an image upright by the EXIF orientation of the original."""
    exif = original.info.get("exif") or original.info.get("Raw profile type exif") or b""
    if len(exif) > MAX_EXIF_BYTES:
        raise CostError(f"more than {MAX_EXIF_BYTES:,} bytes of EXIF")
    try:
        orientation = original.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # decoders raise any exception on broken EXIF; the image itself is intact
        return image
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    """Convert an image to RGB at 1 / factor of its size, strip by strip, so that no second copy is in memory."""
    white = _white(image)
    reduced = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    top = 0
    for strip in _strips(image, factor):
        part = _to_rgb(strip, white).reduce(factor)
        reduced.paste(part, (0, top))
        top += part.height
    return reduced


def _strips(image: Image.Image, factor: int) -> Iterator[Image.Image]:
    """Yield horizontal strips of an image. The height of each but the last is a multiple of the factor."""
    height = max(1, STRIP_PIXELS // (image.width * factor)) * factor
    for top in range(0, image.height, height):
        yield image.crop((0, top, image.width, min(top + height, image.height)))


def _white(image: Image.Image) -> float:
    """Return the value of white of an image with more than 8 bits per channel, or 255."""
    if image.mode not in ("I", "F"):
        return 65535.0 if image.mode.startswith("I;") else 255.0
    _, highest = cast("tuple[float, float]", image.getextrema())
    if not math.isfinite(highest):
        highest = max(float(_finite(strip).max(initial=0.0)) for strip in _strips(image, 1))
    return max(65535.0 if image.mode == "I" else 1.0, highest)


def _finite(image: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _to_rgb(image: Image.Image, white: float) -> Image.Image:
    """Convert an image to RGB, where `white` is the value of white if it has more than 8 bits per channel."""
    if image.mode.startswith(("I", "F")):  # Pillow's own conversion would clip everything above 255
        pixels = _finite(image)
        pixels *= 255.0 / white
        return Image.fromarray(pixels.clip(0, 255, out=pixels).round(out=pixels).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        canvas = Image.new("RGB", layer.size, "white")
        canvas.paste(layer, mask=layer)
        return canvas
    return image.convert("RGB")
