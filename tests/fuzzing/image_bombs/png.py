"""PNG bombs: floods of chunks, compressed texts, and vast images."""

import struct
import zlib

from image_formats import png, png_chunk, png_header, zeros

from image_bombs.registry import LARGE, SIDE, bomb, exif_fractions, fill, slow_bomb


def _pixels() -> list[bytes]:
    return [png_header(8, 8), png_chunk(b"IDAT", zeros(8 * 25))]


@bomb
def png_private_chunks() -> bytes:
    """2.5 million unknown chunks before the image data."""
    header, data = _pixels()
    return png(header, fill(png_chunk(b"prIv")), data)


@bomb
def png_chunks_after_data() -> bytes:
    """2.5 million unknown chunks after the image data."""
    return png(*_pixels(), fill(png_chunk(b"prIv")))


@bomb
def png_empty_data_chunks() -> bytes:
    """2.5 million empty chunks of image data."""
    header, data = _pixels()
    return png(header, data[:0], fill(png_chunk(b"IDAT")), data)


@bomb
def png_text_chunks() -> bytes:
    """A million texts with different keys."""
    header, data = _pixels()
    texts = b"".join(png_chunk(b"tEXt", b"%d\0" % number) for number in range(700_000))
    return png(header, texts, data)


@bomb
def png_vast_rgba() -> bytes:
    """13,000 x 13,000 pixels with transparency, in 0.7 MB."""
    return _vast_png(8, 6, 4)


@bomb
def png_vast_16_bits() -> bytes:
    """13,000 x 13,000 pixels of 16 bits with transparency."""
    return _vast_png(16, 6, 8)


@slow_bomb
def png_vast_grey_16_bits() -> bytes:
    """13,000 x 13,000 grey pixels of 16 bits."""
    return _vast_png(16, 0, 2)


@bomb
def png_vast_1_bit() -> bytes:
    """13,000 x 13,000 pixels of 1 bit, in 20 kB."""
    return _vast_png(1, 0, 1 / 8)


@bomb
def png_vast_interlaced() -> bytes:
    """13,000 x 13,000 interlaced pixels."""
    return _vast_png(8, 2, 3, interlace=1)


@slow_bomb
def png_vast_transparent_palette() -> bytes:
    """13,000 x 13,000 pixels with a palette and transparent colours."""
    palette = [png_chunk(b"PLTE", bytes(range(256)) * 3), png_chunk(b"tRNS", bytes(range(256)))]
    header = png_header(SIDE, SIDE, 8, 3)
    return png(header, *palette, png_chunk(b"IDAT", zeros(SIDE * (SIDE + 1))))


def _vast_png(bits: int, colour: int, bytes_per_pixel: float, interlace: int = 0, side: int = SIDE) -> bytes:
    size = int(side * (side * bytes_per_pixel + 1)) + 30 * side * interlace
    return png(png_header(side, side, bits, colour, interlace), png_chunk(b"IDAT", zeros(size)))


@slow_bomb
def png_large_rgba() -> bytes:
    """10,500 x 10,500 pixels with transparency."""
    return _vast_png(8, 6, 4, side=LARGE)


@bomb
def png_large_rgba_16_bits() -> bytes:
    """10,500 x 10,500 pixels of 16 bits with transparency."""
    return _vast_png(16, 6, 8, side=LARGE)


@slow_bomb
def png_large_interlaced() -> bytes:
    """10,500 x 10,500 interlaced pixels."""
    return _vast_png(8, 6, 4, interlace=1, side=LARGE)


@bomb
def png_compressed_texts() -> bytes:
    """20,000 texts that each unpack to 1 MB, and that are not valid UTF-8."""
    header, data = _pixels()
    text = zlib.compress(bytes((1 << 20) - 2) + b"\xff", 9)
    return png(header, fill(png_chunk(b"iTXt", b"a\0\1\0\0\0" + text)), data)


@bomb
def png_compressed_profiles() -> bytes:
    """20,000 colour profiles that each unpack to 1 MB."""
    header, data = _pixels()
    return png(header, fill(png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 20), 9))), data)


@bomb
def png_wide_texts() -> bytes:
    """60 texts of a million characters that each take four bytes in memory."""
    header, data = _pixels()
    text = zlib.compress(bytes((1 << 20) - 8) + "\N{DOG FACE}".encode(), 9)
    return png(header, *(png_chunk(b"iTXt", b"a%d\0\1\0\0\0" % number + text) for number in range(60)), data)


@bomb
def png_exif_fractions() -> bytes:
    """EXIF whose orientation consists of 3.8 million fractions."""
    header, data = _pixels()
    return png(header, png_chunk(b"eXIf", exif_fractions(30_000_000)), data)


@bomb
def png_animation_controls() -> bytes:
    """700,000 frame controls of an animation."""
    header, data = _pixels()
    control = struct.pack(">IIIIIHHBB", 8, 8, 0, 0, 0, 1, 1, 0, 0)[4:]
    frames = [
        png_chunk(b"fcTL", struct.pack(">I", number) + struct.pack(">II", 8, 8) + control[4:] + bytes(4))
        for number in range(500_000)
    ]
    return png(header, png_chunk(b"acTL", struct.pack(">II", 500_000, 0)), *frames, data)
