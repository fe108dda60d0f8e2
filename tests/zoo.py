"""Images as the world has them: whole, odd, broken, hostile. `make(folder)` makes them all, from one photograph."""

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

PHOTOGRAPH = EXAMPLES / "000000129648.jpg"

CAPTION = "a caption"
NO_IMAGE = "not an image in a format that can be read here"
EMPTY = "the file is empty"
DAMAGED = "damaged or unreadable"
NOT_A_FILE = "not a file"
MISSING = "a link to a file that is not there"
TOO_LARGE = "more than 175,000,000 pixels"
HEIC = "HEIC needs a decoder"
RAW = "camera RAW cannot be read"
PROGRAM = "EPS is a program, and is not run"


@dataclass(frozen=True)
class Exhibit:
    """A file of the zoo.

    Attributes:
        kind: what it is, in words; files of a kind come to the same.
        name: its name, whose bytes need not be text.
        outcome: `CAPTION`, or what the line about it says.
        write: writes it to the path given.
    """

    kind: str
    name: bytes
    outcome: str
    write: Callable[[Path], object]


def photograph(side: int = 160) -> Image.Image:
    """Return the photograph, small."""
    image = Image.open(PHOTOGRAPH).convert("RGB")
    image.thumbnail((side, side))
    return image


def encoded(image: Image.Image, format_: str = "JPEG", **options: object) -> bytes:
    """Return an image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def exhibits() -> list[Exhibit]:
    """Return all of it, in the order of the table."""
    return [*_colours(), *_formats(), *_orientations(), *_sizes(), *_damaged(), *_no_images(), *_names()]


def make(folder: Path) -> list[Exhibit]:
    """Write all of it into a folder; return what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    made = exhibits()
    for each in made:
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + each.name))
        path.parent.mkdir(exist_ok=True)
        each.write(path)
    return made


def table() -> str:
    """Return the kinds and what showtell does with them, in Markdown."""
    rows: dict[tuple[str, str], int] = {}
    for each in exhibits():
        rows[each.kind, each.outcome] = rows.get((each.kind, each.outcome), 0) + 1
    lines = [f"| {kind} | {count} | {outcome} |" for (kind, outcome), count in rows.items()]
    return "\n".join(["| what it is | files | what comes of it |", "|---|---|---|", *lines]) + "\n"


def _file(kind: str, name: str, content: bytes, outcome: str = CAPTION) -> Exhibit:
    return Exhibit(kind, name.encode(), outcome, lambda path: path.write_bytes(content))


def _colours() -> list[Exhibit]:
    image = photograph()
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    clear = image.convert("RGBA")
    clear.putalpha(image.convert("L"))
    cmyk = encoded(image.convert("CMYK"))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return [
        _file("grey", "grey.jpg", encoded(image.convert("L"))),
        _file("1 bit", "bits.png", encoded(image.convert("1"), "PNG")),
        _file("16 bits", "deep.png", encoded(deep, "PNG")),
        _file("16 bits", "deep16.tif", encoded(deep, "TIFF")),
        _file("CMYK with Adobe's marker", "adobe.jpg", cmyk),
        _file("CMYK without", "cmyk.jpg", without_adobe(cmyk)),
        _file("palette", "palette.png", encoded(image.convert("P", palette=Image.Palette.ADAPTIVE), "PNG")),
        _file("transparent (over white)", "clear.png", encoded(clear, "PNG")),
        _file("transparent (over white)", "seethrough.webp", encoded(clear, "WEBP")),
        _file("colour profile", "profile.jpg", encoded(image, icc_profile=profile)),
        _file("broken colour profile", "badprofile.jpg", encoded(image, icc_profile=b"no profile")),
    ]


def _formats() -> list[Exhibit]:
    image = photograph()
    frames = {"save_all": True, "append_images": [image.rotate(90), image.rotate(180)], "duration": 100}
    made = [
        _file("PNG, BMP, TIFF, progressive JPEG", "plain.png", encoded(image, "PNG")),
        _file("PNG, BMP, TIFF, progressive JPEG", "bitmap.bmp", encoded(image, "BMP")),
        _file("PNG, BMP, TIFF, progressive JPEG", "scan.tiff", encoded(image, "TIFF", compression="tiff_lzw")),
        _file("PNG, BMP, TIFF, progressive JPEG", "progressive.jpeg", encoded(image, progressive=True)),
        _file("animated (first frame)", "moving.gif", encoded(image, "GIF", **frames)),
        _file("animated (first frame)", "waving.webp", encoded(image, "WEBP", **frames)),
        _file("wrong suffix", "png.jpg", encoded(image, "PNG")),
        _file("wrong suffix", "jpeg.webp", encoded(image)),
        _file("camera RAW", "camera.jpg", b"FUJIFILMCCD-RAW 0201" + bytes(99), RAW),
        _file(
            "EPS named .jpg",
            "program.jpg",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
            PROGRAM,
        ),
        _file("two pictures in one JPEG", "two.jpg", encoded(image, "MPO", save_all=True, append_images=[image])),
        _file("a film behind the JPEG", "film.jpg", encoded(image) + bytes(5000)),
        _file("broken EXIF", "badexif.webp", encoded(image, "WEBP", exif=b"Exif\0\0MM")),
    ]
    if features.check("avif"):
        made.append(_file("AVIF, if Pillow has it", "new.avif", encoded(image, "AVIF")))
    if find_spec("pillow_heif"):
        made.append(_file("HEIC, if pillow-heif is there", "live.heic", _heic(image)))
    damaged = b"\0\0\0\x18ftypheic" + bytes(99)
    made.append(_file("damaged HEIC", "phone.heic", damaged, DAMAGED if find_spec("pillow_heif") else HEIC))
    return made


def _orientations() -> list[Exhibit]:
    image = photograph()
    undone = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    made = []
    for number in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = number
        stored = image.transpose(undone[number]) if number in undone else image
        content = encoded(stored, "PNG", exif=exif)
        made.append(_file("turned by EXIF, all eight ways: the same", f"orientation{number}.png", content))
    return made


def _sizes() -> list[Exhibit]:
    image = photograph()
    return [
        _file("one pixel", "one.png", encoded(image.resize((1, 1)), "PNG")),
        _file("30,000 x 2", "wide.png", encoded(image.resize((30_000, 2)), "PNG")),
        _file("2 x 30,000", "tall.jpg", encoded(image.resize((2, 30_000)))),
        _file("decompression bomb", "bomb.png", png_of(30_000, 30_000), TOO_LARGE),
        _file("just below the limit, and empty", "vast.png", png_of(13_000, 13_000), DAMAGED),
    ]


def _damaged() -> list[Exhibit]:
    jpeg, png = encoded(photograph()), encoded(photograph(), "PNG")
    made = [_file("empty", "empty.jpg", b"", EMPTY)]
    for suffix, whole in (("jpg", jpeg), ("png", png), ("webp", encoded(photograph(), "WEBP"))):
        for tenth in range(1, 10):
            cut = whole[: len(whole) * tenth // 10]
            made.append(_file("JPEG, PNG and WebP cut off at every tenth", f"{suffix}{tenth}.{suffix}", cut, DAMAGED))
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 4
    made.append(_file("a bit flipped in PNG, which has checksums", "flippedpng.png", bytes(flipped), DAMAGED))
    flipped = bytearray(jpeg)
    flipped[len(jpeg) // 2] ^= 4
    made.append(_file("a bit flipped in JPEG, which has none", "flipped.jpg", bytes(flipped)))
    return made


def _no_images() -> list[Exhibit]:
    return [
        _file("text named .jpg", "text.jpg", b"hello", NO_IMAGE),
        _file("a web page named .png", "page.png", b"<!doctype html><title>404</title>", NO_IMAGE),
        _file("zeros named .jpg", "zeros.jpg", bytes(5000), NO_IMAGE),
        Exhibit("broken link", b"broken.jpg", MISSING, lambda path: path.symlink_to("nowhere")),
        Exhibit("link to itself", b"loop.jpg", MISSING, lambda path: path.symlink_to("loop.jpg")),
        Exhibit("FIFO named .jpg", b"pipe.jpg", NOT_A_FILE, os.mkfifo),
    ]


def _names() -> list[Exhibit]:
    content = encoded(photograph())
    names = {
        "blanks in the name": b"two  blanks .jpg",
        "line breaks and tabs in the name": b"line\nbreak\tand\rmore.jpg",
        "emoji in the name": "\N{DOG FACE}.jpg".encode(),
        "quotes and dashes in the name": b'--"it\'s".jpg',
        "a name that is not UTF-8": b"caf\xe9.jpg",
        "the longest name that there may be": b"n" * 251 + b".jpg",
        "in a folder named .jpg": b"album.jpg/within.jpg",
    }
    odd = b"no\ncaf\xe9.jpg"
    return [
        *(Exhibit(kind, name, CAPTION, lambda path: path.write_bytes(content)) for kind, name in names.items()),
        Exhibit("no image, in a name of lines that are not UTF-8", odd, NO_IMAGE, lambda path: path.write_bytes(b"no")),
    ]


def _heic(image: Image.Image) -> bytes:
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer)
    return buffer.getvalue()


def without_adobe(jpeg: bytes) -> bytes:
    """Return a JPEG file without the marker by which Adobe's programs tell how colours are stored."""
    place = jpeg.index(b"\xff\xee")
    length = struct.unpack(">H", jpeg[place + 2 : place + 4])[0]
    return jpeg[:place] + jpeg[place + 2 + length :]


def png_of(width: int, height: int) -> bytes:
    """Return a PNG that claims to be so large, with hardly anything in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts
