"""Damaged image files of all supported formats."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import zoo
from byte_mutator import mutate
from image_mutators import mutate_structure
from PIL import ExifTags, Image
from runner import Case

from showtell.images import Preprocess

Damage = Callable[[bytes, np.random.Generator], bytes]


def byte_case(folder: Path) -> Case:
    """Decode image files with damaged bytes."""
    return _decoding_case(folder, mutate)


def structure_case(folder: Path) -> Case:
    """Decode image files with damaged parts."""
    return _decoding_case(folder, mutate_structure)


def _decoding_case(folder: Path, damage: Damage) -> Case:
    files = templates()
    preprocess = Preprocess()

    def case(generator: np.random.Generator) -> Callable[[], object]:
        content = damage(files[generator.integers(len(files))], generator)
        (folder / "image").write_bytes(content)
        return partial(preprocess.load, content)

    return case


def templates() -> list[bytes]:
    """Return valid files of all formats, with various metadata, colour modes and frames."""
    image = zoo.photo(96)
    transparent = image.convert("RGBA")
    transparent.putalpha(image.convert("L"))
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    frames = {"save_all": True, "append_images": [image.rotate(90)]}
    formats = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]
    Image.init()
    if "AVIF" in Image.SAVE:
        formats.append("AVIF")
    if find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
        formats.append("HEIF")
    return [
        *(zoo.encode(image, name, exif=exif) for name in formats),
        zoo.encode(image, "JPEG", progressive=True),
        zoo.encode(image.convert("CMYK"), "JPEG"),
        zoo.encode(image, "MPO", **frames),
        zoo.encode(image.convert("P"), "PNG"),
        zoo.encode(transparent, "PNG"),
        zoo.encode(image, "PNG", **frames),
        zoo.encode(transparent, "WEBP", lossless=True),
        zoo.encode(image, "WEBP", **frames),
        zoo.encode(image, "GIF", **frames),
        zoo.encode(image.convert("P"), "BMP"),
        zoo.encode(image, "TIFF", compression="tiff_lzw"),
        zoo.encode(image, "TIFF", compression="jpeg"),
        zoo.encode(deep, "TIFF", compression="tiff_deflate"),
    ]
