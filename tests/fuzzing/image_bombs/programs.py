"""Files that are programs."""

import struct

from image_bombs.registry import bomb


@bomb
def iptc_with_eps() -> bytes:
    """IPTC, which Pillow recognises without a magic number, with an EPS program inside."""
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"
    fields = [((3, 60), b"\1\0"), ((3, 20), b"\0\x09"), ((3, 30), b"\0\x09"), ((3, 120), b"\5"), ((8, 10), program)]
    return b"".join(b"\x1c" + bytes(tag) + struct.pack(">H", len(value)) + value for tag, value in fields)
