"""A collection of valid, unusual, damaged and hostile image files, all made from one photo by `make(folder)`."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from helpers import EXAMPLES
from PIL import Image, ImageCms, features

PHOTO = EXAMPLES / "000000129648.jpg"

CAPTION = "a caption"
UNKNOWN_FORMAT = "not an image, or an unsupported image format"
EMPTY = "the file is empty"
DAMAGED = "damaged or unreadable"
NOT_A_FILE = "not a regular file"
BROKEN_LINK = "broken symbolic link"
TOO_LARGE = "more than 175,000,000 pixels"
HEIC = "HEIC needs a decoder"
RAW = "camera RAW files are not supported"
EPS = "EPS files are not supported"


@dataclass(frozen=True)
class Exhibit:
    """A file of the zoo.

    Attributes:
        kind: description of the file; files of one kind have the same result.
        name: file name, which need not be valid text.
        result: `CAPTION`, or a part of the error message.
        write: writes the file to a path.
    """

    kind: str
    name: bytes
    result: str
    write: Callable[[Path], object]


def photo(side: int = 160) -> Image.Image:
    """Return the photo, reduced to at most `side` pixels."""
    image = Image.open(PHOTO).convert("RGB")
    image.thumbnail((side, side))
    return image


def encode(image: Image.Image, format_: str = "JPEG", **options: object) -> bytes:
    """Return the content of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def exhibits() -> list[Exhibit]:
    """Return all files, in the order of the table."""
    return [*_colours(), *_formats(), *_orientations(), *_sizes(), *_damaged(), *_other_files(), *_names()]


def make(folder: Path) -> list[Exhibit]:
    """Write all files into a folder and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    made = exhibits()
    for exhibit in made:
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + exhibit.name))
        path.parent.mkdir(exist_ok=True)
        exhibit.write(path)
    return made


def table() -> str:
    """Return a Markdown table of the kinds of files and their results."""
    counts: dict[tuple[str, str], int] = {}
    for exhibit in exhibits():
        counts[exhibit.kind, exhibit.result] = counts.get((exhibit.kind, exhibit.result), 0) + 1
    rows = [f"| {kind} | {count} | {result} |" for (kind, result), count in counts.items()]
    return "\n".join(["| file | count | result |", "|---|---|---|", *rows]) + "\n"


def _file(kind: str, name: str, content: bytes, result: str = CAPTION) -> Exhibit:
    return Exhibit(kind, name.encode(), result, lambda path: path.write_bytes(content))


def _colours() -> list[Exhibit]:
    image = photo()
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    transparent = image.convert("RGBA")
    transparent.putalpha(image.convert("L"))
    cmyk = encode(image.convert("CMYK"))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return [
        _file("greyscale", "grey.jpg", encode(image.convert("L"))),
        _file("1 bit", "bits.png", encode(image.convert("1"), "PNG")),
        _file("16 bits", "deep.png", encode(deep, "PNG")),
        _file("16 bits", "deep16.tif", encode(deep, "TIFF")),
        _file("CMYK with Adobe marker", "adobe.jpg", cmyk),
        _file("CMYK without Adobe marker", "cmyk.jpg", without_adobe_marker(cmyk)),
        _file("palette", "palette.png", encode(image.convert("P", palette=Image.Palette.ADAPTIVE), "PNG")),
        _file("transparent (drawn on white)", "transparent.png", encode(transparent, "PNG")),
        _file("transparent (drawn on white)", "seethrough.webp", encode(transparent, "WEBP")),
        _file("colour profile", "profile.jpg", encode(image, icc_profile=profile)),
        _file("invalid colour profile", "badprofile.jpg", encode(image, icc_profile=b"no profile")),
    ]


def _formats() -> list[Exhibit]:
    image = photo()
    frames = {"save_all": True, "append_images": [image.rotate(90), image.rotate(180)], "duration": 100}
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    made = [
        _file("PNG, BMP, TIFF, progressive JPEG", "plain.png", encode(image, "PNG")),
        _file("PNG, BMP, TIFF, progressive JPEG", "bitmap.bmp", encode(image, "BMP")),
        _file("PNG, BMP, TIFF, progressive JPEG", "scan.tiff", encode(image, "TIFF", compression="tiff_lzw")),
        _file("PNG, BMP, TIFF, progressive JPEG", "progressive.jpeg", encode(image, progressive=True)),
        _file("animated (first frame)", "animated.gif", encode(image, "GIF", **frames)),
        _file("animated (first frame)", "frames.webp", encode(image, "WEBP", **frames)),
        _file("wrong suffix", "png.jpg", encode(image, "PNG")),
        _file("wrong suffix", "jpeg.webp", encode(image)),
        _file("camera RAW", "camera.jpg", b"FUJIFILMCCD-RAW 0201" + bytes(99), RAW),
        _file("EPS named .jpg", "program.jpg", eps, EPS),
        _file("JPEG with two images", "two.jpg", encode(image, "MPO", save_all=True, append_images=[image])),
        _file("JPEG with a video appended", "video.jpg", encode(image) + bytes(5000)),
        _file("invalid EXIF", "badexif.webp", encode(image, "WEBP", exif=b"Exif\0\0MM")),
    ]
    if features.check("avif"):
        made.append(_file("AVIF, if Pillow supports it", "new.avif", encode(image, "AVIF")))
    if find_spec("pillow_heif"):
        made.append(_file("HEIC, if pillow-heif is installed", "live.heic", _heic(image)))
    damaged = b"\0\0\0\x18ftypheic" + bytes(99)
    made.append(_file("damaged HEIC", "phone.heic", damaged, DAMAGED if find_spec("pillow_heif") else HEIC))
    return made


def _orientations() -> list[Exhibit]:
    image = photo()
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    made = []
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = image.transpose(inverse[orientation]) if orientation in inverse else image
        content = encode(stored, "PNG", exif=exif)
        made.append(_file("all eight EXIF orientations (same caption)", f"orientation{orientation}.png", content))
    return made


def _sizes() -> list[Exhibit]:
    image = photo()
    return [
        _file("one pixel", "one.png", encode(image.resize((1, 1)), "PNG")),
        _file("30,000 x 2 pixels", "wide.png", encode(image.resize((30_000, 2)), "PNG")),
        _file("2 x 30,000 pixels", "tall.jpg", encode(image.resize((2, 30_000)))),
        _file("decompression bomb", "bomb.png", truncated_png(30_000, 30_000), TOO_LARGE),
        _file("just below the pixel limit, without data", "vast.png", truncated_png(13_000, 13_000), DAMAGED),
    ]


def _damaged() -> list[Exhibit]:
    jpeg, png = encode(photo()), encode(photo(), "PNG")
    made = [_file("empty", "empty.jpg", b"", EMPTY)]
    for suffix, content in (("jpg", jpeg), ("png", png), ("webp", encode(photo(), "WEBP"))):
        for tenth in range(1, 10):
            part = content[: len(content) * tenth // 10]
            made.append(_file("JPEG, PNG and WebP truncated at each tenth", f"{suffix}{tenth}.{suffix}", part, DAMAGED))
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 4
    made.append(_file("PNG with one wrong bit (has checksums)", "flippedpng.png", bytes(flipped), DAMAGED))
    flipped = bytearray(jpeg)
    flipped[len(jpeg) // 2] ^= 4
    made.append(_file("JPEG with one wrong bit (has no checksums)", "flipped.jpg", bytes(flipped)))
    return made


def _other_files() -> list[Exhibit]:
    return [
        _file("text named .jpg", "text.jpg", b"hello", UNKNOWN_FORMAT),
        _file("web page named .png", "page.png", b"<!doctype html><title>404</title>", UNKNOWN_FORMAT),
        _file("zeros named .jpg", "zeros.jpg", bytes(5000), UNKNOWN_FORMAT),
        Exhibit("broken link", b"broken.jpg", BROKEN_LINK, lambda path: path.symlink_to("nowhere")),
        Exhibit("link to itself", b"loop.jpg", BROKEN_LINK, lambda path: path.symlink_to("loop.jpg")),
        Exhibit("FIFO named .jpg", b"pipe.jpg", NOT_A_FILE, os.mkfifo),
    ]


def _names() -> list[Exhibit]:
    content = encode(photo())
    names = {
        "spaces in the name": b"two  spaces .jpg",
        "line breaks and tabs in the name": b"line\nbreak\tand\rmore.jpg",
        "emoji in the name": "\N{DOG FACE}.jpg".encode(),
        "quotes and dashes in the name": b'--"it\'s".jpg',
        "name that is not UTF-8": b"caf\xe9.jpg",
        "longest possible name": b"n" * 251 + b".jpg",
        "in a folder named .jpg": b"album.jpg/within.jpg",
    }
    odd = b"no\ncaf\xe9.jpg"
    return [
        *(Exhibit(kind, name, CAPTION, lambda path: path.write_bytes(content)) for kind, name in names.items()),
        Exhibit("text, name with line break and not UTF-8", odd, UNKNOWN_FORMAT, lambda path: path.write_bytes(b"no")),
    ]


def _heic(image: Image.Image) -> bytes:
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer)
    return buffer.getvalue()


def without_adobe_marker(jpeg: bytes) -> bytes:
    """Return a JPEG file without the Adobe marker, which says how colours are stored."""
    start = jpeg.index(b"\xff\xee")
    length = struct.unpack(">H", jpeg[start + 2 : start + 4])[0]
    return jpeg[:start] + jpeg[start + 2 + length :]


def truncated_png(width: int, height: int) -> bytes:
    """Return a PNG file with this size in its header, but data of only 1,000 bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks
