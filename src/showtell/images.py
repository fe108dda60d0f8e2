"""Images: find them, decode them safely, and resize them to the input size of an encoder."""

import os
import re
from collections.abc import Container, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Literal, TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from showtell.errors import ConfigurationError, ImageError
from showtell.utils.text import one_line
from showtell.utils.threads import parallel_map

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"})
RAW_SUFFIXES = frozenset({".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".dng", ".pef", ".srw"})
# Just below Pillow's own limit, so that this limit applies first.
MAX_PIXELS = 175_000_000
MAX_SIZE = 10_000
# Maximum number of decoded images that wait per thread: enough to keep the encoder busy without using much memory.
DECODED_AHEAD = 8
# Larger images are decoded one at a time, because most formats need several times their size in memory.
LARGE_IMAGE_PIXELS = 25_000_000
_large_image_lock = Lock()

_HEIC = re.compile(rb".{4}ftyp(hei|hev|mif1|msf1)", re.DOTALL)
# RAW files of Canon (CR3), Fujifilm, Olympus and Panasonic. RAW files of other makers start like TIFF files.
_RAW = re.compile(rb".{4}ftypcrx |FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0", re.DOTALL)

_Item = TypeVar("_Item")

# A path, the content of an image file, an open binary file, a Pillow image, or pixels (H, W, 3) uint8.
ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

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


@dataclass(frozen=True)
class Preprocess:
    """The preprocessing of images for an encoder. Feature files, runs and bundles record it.

    Attributes:
        size: height and width of the result in pixels.
        resize: "squash" scales both sides to `size`; "crop" keeps the aspect ratio and crops the centre.
        interpolation: "bilinear", "bicubic" or "lanczos", each with antialiasing, as Pillow implements them.

    Raises:
        ConfigurationError: if a value is out of range.

    Examples:
        >>> Preprocess(size=8)(Image.new("RGB", (60, 40))).shape
        (8, 8, 3)
    """

    size: int = 224
    resize: Literal["squash", "crop"] = "squash"
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bicubic"

    def __post_init__(self) -> None:
        known = self.resize in ("squash", "crop") and self.interpolation in _FILTERS
        if not (known and 1 <= self.size <= MAX_SIZE):
            raise ConfigurationError(
                f"invalid preprocessing: {self}. size must be 1 to {MAX_SIZE}, resize squash or crop, and "
                f"interpolation {', '.join(_FILTERS)}"
            )

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Return the pixels (size, size, 3) uint8 of an RGB image."""
        box = None
        if self.resize == "crop":
            side = min(image.size)
            left, top = (image.width - side) / 2, (image.height - side) / 2
            box = (left, top, left + side, top + side)
        return np.asarray(image.resize((self.size, self.size), _FILTERS[self.interpolation], box=box))

    def load(self, source: ImageSource) -> np.ndarray:
        """Decode an image to pixels (size, size, 3) uint8. Raises ImageError."""
        return self(decode(source, at_least=self.size))

    def load_all(self, sources: Iterable[ImageSource]) -> Iterator["np.ndarray | ImageError"]:
        """Decode images in background threads, and yield them in order. Yield an ImageError for an unreadable image."""

        def load(source: ImageSource) -> np.ndarray | ImageError:
            try:
                return self.load(source)
            except ImageError as error:
                return error

        return parallel_map(load, sources, DECODED_AHEAD)


def decode(source: ImageSource, at_least: int | None = None) -> Image.Image:
    """Decode an image to RGB, upright by its EXIF orientation, with transparency over white.

    Args:
        source: any `ImageSource`. For an animation, the first frame is used.
        at_least: if given, a JPEG may be decoded at a reduced scale with at least this many pixels per side, which is
            several times faster.

    Raises:
        ImageError: if the file does not exist, is not an image, is damaged, or has more than MAX_PIXELS pixels.
        TypeError: if the source is not an `ImageSource`.
    """
    source = read_source(source)
    if isinstance(source, np.ndarray):
        return _from_array(source)
    name = repr(str(source)) if isinstance(source, Path) else "the image"
    try:
        if isinstance(source, Path) and not source.is_file():  # a FIFO or device would block forever
            raise ImageError(f"{name}: {_describe_non_file(source)}")
        if isinstance(source, Image.Image):
            return _decode_opened(source, name, at_least=None)  # draft mode would change the caller's image
        with open_image(source) as image:
            return _decode_opened(image, name, at_least)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name}: {_describe_unknown_format(source)}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: too large: more than {MAX_PIXELS:,} pixels") from None
    except MemoryError:
        raise ImageError(f"{name}: too large for the memory of this machine") from None
    except Exception as error:  # decoders raise any exception on damaged input
        reason = one_line(error) or type(error).__name__
        raise ImageError(f"{name}: damaged or unreadable ({reason})") from None


def read_source(source: ImageSource) -> Path | bytes | Image.Image | np.ndarray:
    """Return the source as a path, bytes, image or array; a file object is read. Raises TypeError for other types."""
    match source:
        case str() | os.PathLike():
            return Path(source)
        case bytes() | Image.Image() | np.ndarray():
            return source
        case bytearray() | memoryview():
            return bytes(source)
    if callable(getattr(source, "read", None)):
        content = source.read()
        if isinstance(content, bytes):
            return content
        raise TypeError("not a binary file: open image files with mode 'rb'")
    raise TypeError(
        f"not an image source: {type(source).__name__}. Pass a path, bytes, a binary file, a PIL image or an array"
    )


def open_image(source: Path | bytes) -> Image.Image:
    """Read the header of an image file without decoding it; HEIC needs pillow-heif. Raises Pillow's errors."""
    try:
        return Image.open(BytesIO(source) if isinstance(source, bytes) else source)
    except UnidentifiedImageError:
        if not (_HEIC.match(_first_bytes(source)) and _has_heic_decoder()):
            raise
        return Image.open(BytesIO(source) if isinstance(source, bytes) else source)


def _from_array(pixels: np.ndarray) -> Image.Image:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ImageError(f"the image: an array must be (H, W, 3) uint8, not {pixels.shape} {pixels.dtype}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _decode_opened(image: Image.Image, name: str, at_least: int | None) -> Image.Image:
    if image.format == "EPS":
        raise ImageError(f"{name}: EPS files are not supported, because they are programs; export the image as PNG")
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"{name}: too large: {image.width} x {image.height} is more than {MAX_PIXELS:,} pixels")
    if at_least is not None:
        image.draft("RGB", (at_least, at_least))
    with _large_image_lock if image.width * image.height > LARGE_IMAGE_PIXELS else nullcontext():
        image.load()
        return _to_rgb(_upright(image))


def _describe_non_file(path: Path) -> str:
    if path.is_dir():
        return "a folder, not an image" if os.access(path, os.R_OK | os.X_OK) else "a folder without read permission"
    if path.exists():
        return "not a regular file"
    return "broken symbolic link" if path.is_symlink() else "no such file"


def _describe_unknown_format(source: Path | bytes | Image.Image) -> str:
    head = b"" if isinstance(source, Image.Image) else _first_bytes(source)
    if not head:
        return "the file is empty"
    if _HEIC.match(head) and _has_heic_decoder():
        return "damaged or unreadable (the HEIC decoder does not support it)"
    if _HEIC.match(head):
        return "HEIC needs a decoder; install it with: pip install 'showtell[heic]', or export the image as JPEG"
    if _RAW.match(head):
        return "camera RAW files are not supported; export the image as JPEG"
    return "not an image, or an unsupported image format"


@cache
def _has_heic_decoder() -> bool:
    """Register the HEIC decoder of pillow-heif with Pillow. Return False if pillow-heif is not installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _first_bytes(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:16]
    with open(source, "rb") as file:
        return file.read(16)


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # decoders raise any exception on broken EXIF; the image itself is intact
        return image
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        # 16 bits and more: Pillow's own conversion would clip everything above 255.
        pixels = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        top = max(65535.0 if image.mode.startswith("I") else 1.0, float(pixels.max(initial=0.0)))
        pixels *= 255.0 / top
        return Image.fromarray(pixels.clip(0, 255, out=pixels).round(out=pixels).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGB", layer.size, "white")
        white.paste(layer, mask=layer)
        return white
    return image.convert("RGB")


def find_images(
    paths: Iterable[str | Path], recursive: bool = True, suffixes: Container[str] = SUFFIXES
) -> Iterator[Path]:
    """Yield the given files. For each given folder, yield its files with a known suffix, sorted by name.

    A given file is yielded even if it does not exist or is not an image, so that decoding it reports the error. For the
    same reason, a folder that cannot be listed is yielded itself. Hidden files and folders are skipped.

    Args:
        paths: files and folders.
        recursive: search subfolders.
        suffixes: lower-case suffixes to look for; by default those of images.
    """
    unlisted: list[Path] = []
    for path in map(Path, paths):
        if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a name is too long
            yield path
            continue
        seen: set[tuple[int, int]] = set()
        walk = os.walk(path, onerror=lambda error: unlisted.append(Path(error.filename)), followlinks=True)
        for folder, folders, names in walk:
            here = Path(folder).stat()
            if (here.st_dev, here.st_ino) in seen:  # a symbolic link to a parent folder
                folders.clear()
                continue
            seen.add((here.st_dev, here.st_ino))
            folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
            for name in sorted(names):
                if Path(name).suffix.lower() in suffixes and not name.startswith("."):
                    yield Path(folder, name)
    yield from unlisted


def list_images(folder: Path) -> list[tuple[str, Path]]:
    """Return the relative name, with slashes, and the path of every image in a folder.

    Raises:
        ImageError: if the folder does not exist or has no images.
    """
    images = [(path.relative_to(folder).as_posix(), path) for path in find_images([folder])] if folder.is_dir() else []
    if not images:
        raise ImageError(f"{str(folder)!r}: no such folder, or no images in it")
    return images


def batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield lists of `size` items; the last one may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
