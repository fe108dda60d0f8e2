"""Images: finding them, decoding them safely, and bringing them to the size that an encoder wants."""

import os
import re
import warnings
from collections.abc import Container, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Literal, TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from showtell.errors import ConfigurationError, ImageError
from showtell.utils.threads import parallel_map

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"})
RAW_SUFFIXES = frozenset({".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".dng", ".pef", ".srw"})
# Just below Pillow's own limit, so that this one decides.
MAX_PIXELS = 175_000_000
MAX_SIZE = 10_000
# Images that wait decoded, for each thread: enough that the encoder never waits, few enough for memory to stay flat.
DECODED_AHEAD = 8
# Images of more pixels are decoded one at a time: most formats are whole in memory then, several times over.
LARGE = 25_000_000
_one_large = Lock()
# Blocks of more than 32 MB go back to the system when they are free; smaller ones, each thread would keep for itself.
Image.core.set_block_size(64 << 20)

# Of broken metadata and many pixels, which do not matter here. Not catch_warnings: one thread would undo another's.
warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\.")

_HEIC = re.compile(rb".{4}ftyp(hei|hev|mif1|msf1)", re.DOTALL)
# The RAW formats of Canon (CR3), Fujifilm, Olympus and Panasonic; others begin like a TIFF.
_RAW = re.compile(rb".{4}ftypcrx |FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0", re.DOTALL)

_Item = TypeVar("_Item")

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# By the orientation of EXIF.
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
    """How an image becomes the pixels that an encoder reads; it travels with all that was made with it.

    Attributes:
        size: height and width of the result, in pixels.
        resize: "squash" scales both sides to `size`; "crop" keeps the aspect ratio and takes the middle.
        interpolation: "bilinear", "bicubic" or "lanczos"; all average over the pixels that they shrink.
    """

    size: int = 224
    resize: Literal["squash", "crop"] = "squash"
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bicubic"

    def __post_init__(self) -> None:
        known = self.resize in ("squash", "crop") and self.interpolation in _FILTERS
        if not (known and 1 <= self.size <= MAX_SIZE):
            raise ConfigurationError(f"{self} cannot be used: size must be 1 to {MAX_SIZE}, the other two known words")

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Return the pixels of an RGB image as (size, size, 3) uint8."""
        box = None
        if self.resize == "crop":
            side = min(image.size)
            left, top = (image.width - side) / 2, (image.height - side) / 2
            box = (left, top, left + side, top + side)
        return np.asarray(image.resize((self.size, self.size), _FILTERS[self.interpolation], box=box))

    def load(self, source: str | Path | bytes) -> np.ndarray:
        """Decode an image file, or the bytes of one, to (size, size, 3) uint8. Raises ImageError."""
        return self(decode(source, at_least=self.size))

    def load_all(self, sources: Iterable[str | Path | bytes]) -> Iterator["np.ndarray | ImageError"]:
        """Load many images in order, decoding ahead in threads; an unreadable one gives its error."""

        def load(source: str | Path | bytes) -> np.ndarray | ImageError:
            try:
                return self.load(source)
            except ImageError as error:
                return error

        return parallel_map(load, sources, DECODED_AHEAD)


def decode(source: str | Path | bytes, at_least: int | None = None) -> Image.Image:
    """Decode an image to RGB as a person would see it: turned by its EXIF orientation, transparency over white.

    Args:
        source: a path, or the bytes of an image file. Of an animation, the first frame is taken.
        at_least: if given, a JPEG may be decoded at a reduced scale at which both sides still have so many pixels;
            that is several times faster.

    Raises:
        ImageError: if there is no such file, or it is no image, is damaged, or has more than MAX_PIXELS pixels.
    """
    name = "the image" if isinstance(source, bytes) else f"{str(source)!r}"
    try:
        # A FIFO or device would block for ever.
        if not isinstance(source, bytes) and not Path(source).is_file():
            raise ImageError(f"{name}: {_what_it_is(Path(source))}")
        with open_image(source) as image:
            if image.format == "EPS":
                raise ImageError(f"{name}: EPS is a program, and is not run; export it as PNG first")
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(f"{name}: {image.width} x {image.height} pixels are more than {MAX_PIXELS:,}")
            if at_least is not None:
                image.draft("RGB", (at_least, at_least))
            with _one_large if image.width * image.height > LARGE else nullcontext():
                image.load()
                return _to_rgb(_upright(image))
    except ImageError:
        raise
    except UnidentifiedImageError:
        head = _head(source)
        if not head:
            raise ImageError(f"{name}: the file is empty") from None
        if _HEIC.match(head) and _has_heic_decoder():
            raise ImageError(f"{name}: damaged or unreadable (its decoder knows no such HEIC)") from None
        if _HEIC.match(head):
            advice = "pip install 'showtell[heic]', or export it as JPEG first"
            raise ImageError(f"{name}: HEIC needs a decoder; {advice}") from None
        if _RAW.match(head):
            raise ImageError(f"{name}: camera RAW cannot be read; export it as JPEG first") from None
        raise ImageError(f"{name}: not an image in a format that can be read here") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: more than {MAX_PIXELS:,} pixels") from None
    except MemoryError:
        raise ImageError(f"{name}: too large for this machine's memory") from None
    except Exception as error:  # decoders raise whatever they like on damaged input
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: damaged or unreadable ({reason})") from None


def _what_it_is(path: Path) -> str:
    if path.is_dir():
        return "a folder, not an image" if os.access(path, os.R_OK | os.X_OK) else "a folder that may not be read"
    if path.exists():
        return "not a file"
    return "a link to a file that is not there" if path.is_symlink() else "no such file"


def open_image(source: str | Path | bytes) -> Image.Image:
    """Open an image by its head, not decoded yet; HEIC, too, where its decoder is. Raises what Pillow raises."""
    try:
        return Image.open(BytesIO(source) if isinstance(source, bytes) else source)
    except UnidentifiedImageError:
        if not (_HEIC.match(_head(source)) and _has_heic_decoder()):
            raise
        return Image.open(BytesIO(source) if isinstance(source, bytes) else source)


@cache
def _has_heic_decoder() -> bool:
    """Give Pillow the decoder of pillow-heif, if that is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _head(source: str | Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:16]
    with open(source, "rb") as file:
        return file.read(16)


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # broken EXIF, of which decoders raise whatever they like; the picture is whole
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
    """Yield files as they are named, and for each folder the files in it with a known suffix, sorted by name.

    A named file is yielded whether or not it exists or is an image: reading it will tell. So is a folder that cannot be
    listed. What is hidden is left out.

    Args:
        paths: files and folders.
        recursive: search the folders in a folder, too.
        suffixes: the suffixes, in lower case; by default those of images.
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
            if (here.st_dev, here.st_ino) in seen:  # a link to a folder above
                folders.clear()
                continue
            seen.add((here.st_dev, here.st_ino))
            folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
            for name in sorted(names):
                if Path(name).suffix.lower() in suffixes and not name.startswith("."):
                    yield Path(folder, name)
    yield from unlisted


def list_images(folder: Path) -> list[tuple[str, Path]]:
    """Return the name relative to `folder`, with slashes, and the path of every image in it. Raises ImageError."""
    images = [(path.relative_to(folder).as_posix(), path) for path in find_images([folder])] if folder.is_dir() else []
    if not images:
        raise ImageError(f"{str(folder)!r}: no folder with images")
    return images


def batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield lists of `size` items, the last perhaps shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
