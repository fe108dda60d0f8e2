"""The parts of image files: PNG and RIFF chunks, JPEG segments, TIFF directories, GIF blocks and ISO boxes."""

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PNG_START = b"\x89PNG\r\n\x1a\n"
# Sizes in bytes of the TIFF field types, in the order of their numbers.
TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
TIFF_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q"}


def png_chunk(kind: bytes, content: bytes = b"") -> bytes:
    """Return a PNG chunk with a correct checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def png_header(width: int, height: int, bits: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    """Return an IHDR chunk."""
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace))


def png(*chunks: bytes) -> bytes:
    """Return a PNG file."""
    return PNG_START + b"".join(chunks) + png_chunk(b"IEND")


def zeros(count: int) -> bytes:
    """Return `count` zero bytes in zlib format, much faster than zlib.compress."""
    block = 1 << 20
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    full = compressor.compress(bytes(block)) + compressor.flush(zlib.Z_FULL_FLUSH)
    rest = zlib.compressobj(9, zlib.DEFLATED, -15)
    end = rest.compress(bytes(count % block)) + rest.flush()
    checksum = ((count % 65521) << 16) + 1  # Adler-32 of zeros
    return b"\x78\xda" + full * (count // block) + end + struct.pack(">I", checksum)


def jpeg_segment(marker: int, content: bytes = b"") -> bytes:
    """Return a JPEG marker segment; the marker is its second byte, such as 0xE1."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def split_jpeg(content: bytes) -> tuple[list[bytes], bytes]:
    """Return the segments before the image data, without the start marker, and the rest from the first scan on."""
    segments = []
    position = 2
    while content[position + 1] != 0xDA:
        end = position + 2 + int.from_bytes(content[position + 2 : position + 4])
        segments.append(content[position:end])
        position = end
    return segments, content[position:]


def jpeg(segments: Iterable[bytes], scans: bytes) -> bytes:
    """Return a JPEG file."""
    return b"\xff\xd8" + b"".join(segments) + scans


@dataclass(frozen=True)
class TiffField:
    """A field of a TIFF directory.

    Attributes:
        tag: number of the tag.
        type: number of the type.
        value: the encoded values, or an offset if `count` is given.
        count: number of values, if it differs from that in `value`.
    """

    tag: int
    type: int
    value: bytes
    count: int | None = None


class Tiff:
    """Writer of TIFF files and EXIF blocks.

    Attributes:
        order: "<" or ">".
        is_big: BigTIFF, with offsets of 8 bytes.
    """

    def __init__(self, order: str = "<", is_big: bool = False):
        self.order, self.is_big = order, is_big
        mark = {"<": b"II", ">": b"MM"}[order]
        head = mark + struct.pack(order + "HHH", 43, 8, 0) if is_big else mark + struct.pack(order + "H", 42)
        self._parts = [head + bytes(self.word)]
        self._size = len(head) + self.word

    @property
    def word(self) -> int:
        """Size of an offset in bytes."""
        return 8 if self.is_big else 4

    def number(self, value: int) -> bytes:
        """Encode an offset."""
        return (value % (1 << 8 * self.word)).to_bytes(self.word, "little" if self.order == "<" else "big")

    def field(self, tag: int, *values: float, type_: int = 4) -> TiffField:
        """Return a field with numbers."""
        return TiffField(tag, type_, struct.pack(f"{self.order}{len(values)}{TIFF_CODES[type_]}", *values))

    def pointer(self, tag: int, type_: int, count: int, offset: int) -> TiffField:
        """Return a field with values at an offset."""
        return TiffField(tag, type_, self.number(offset), count)

    def add(self, data: bytes) -> int:
        """Append data, and return its offset."""
        self._parts.append(data)
        self._size += len(data)
        return self._size - len(data)

    def add_directory(self, fields: Sequence[TiffField], following: int = 0, count: int | None = None) -> int:
        """Append a directory, and return its offset.

        Args:
            fields: its fields.
            following: offset of the next directory.
            count: number of fields, if it differs from the true one.
        """
        entries = []
        for field in fields:
            number = len(field.value) // TIFF_SIZES.get(field.type, 1) if field.count is None else field.count
            fits = field.count is not None or len(field.value) <= self.word
            value = field.value.ljust(self.word, b"\0") if fits else self.number(self.add(field.value))
            entries.append(struct.pack(self.order + "HH", field.tag, field.type) + self.number(number) + value)
        number = len(fields) if count is None else count
        head = struct.pack(self.order + ("Q" if self.is_big else "H"), number)
        return self.add(head + b"".join(entries) + self.number(following))

    def file(self, first: int) -> bytes:
        """Return the file, with the offset of its first directory."""
        head = self._parts[0][: -self.word] + self.number(first)
        return b"".join([head, *self._parts[1:]])


def riff_chunk(kind: bytes, content: bytes = b"") -> bytes:
    """Return a RIFF chunk, padded to an even size."""
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def webp(*chunks: bytes) -> bytes:
    """Return a WebP file."""
    return riff_chunk(b"RIFF", b"WEBP" + b"".join(chunks))


def webp_header(width: int, height: int, flags: int = 0) -> bytes:
    """Return a VP8X chunk: flag 2 is animation, 8 is EXIF, 16 is transparency."""
    return riff_chunk(b"VP8X", struct.pack("<I", flags) + (width - 1).to_bytes(3, "little") + _minus_one(height))


def _minus_one(number: int) -> bytes:
    return (number - 1).to_bytes(3, "little")


def split_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return the kinds and contents of the RIFF chunks."""
    chunks = []
    position = 0
    while position + 8 <= len(content):
        kind, size = struct.unpack_from("<4sI", content, position)
        chunks.append((kind, content[position + 8 : position + 8 + size]))
        position += 8 + size + size % 2
    return chunks


def box(kind: bytes, *contents: bytes) -> bytes:
    """Return a box of the ISO base media file format (AVIF, HEIC)."""
    content = b"".join(contents)
    return struct.pack(">I", len(content) + 8) + kind + content


def full_box(kind: bytes, version: int, *contents: bytes) -> bytes:
    """Return a box with a version."""
    return box(kind, bytes([version, 0, 0, 0]), *contents)


def split_boxes(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return the kinds and contents of the boxes."""
    boxes = []
    position = 0
    while position + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, position)
        size = size if size >= 8 else len(content) - position
        boxes.append((kind, content[position + 8 : position + size]))
        position += size
    return boxes
