"""GIF: screens, extensions, sub-blocks and LZW codes."""

import struct

import numpy as np

from image_mutators import numbers


def mutate(content: bytes, generator: np.random.Generator) -> bytes:
    """Change blocks of a GIF file."""
    head, blocks = _split(content)
    operations = (_insert_extension, _resize_frame, _replace_data, numbers.rearrange)
    for _ in range(int(generator.integers(1, 5))):
        if generator.random() < 0.3:
            sides = [min(numbers.side(generator), 65_535) for _ in range(2)]
            head = head[:6] + struct.pack("<HH", *sides) + head[10:]
        else:
            numbers.choose(operations, generator)(blocks, generator)
    return head + b"".join(blocks) + b";"


def _split(content: bytes) -> tuple[bytes, list[bytes]]:
    """Return the screen with its palette, and the extensions and frames."""
    position = 13 + _palette_size(content[10])
    head, blocks = content[:position], []
    while content[position : position + 1] in (b"!", b","):
        start = position
        position += 2 if content[position] == ord("!") else 11 + _palette_size(content[position + 9])
        while content[position]:
            position += 1 + content[position]
        position += 1
        blocks.append(content[start:position])
    return head, blocks


def _palette_size(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _insert_extension(blocks: list[bytes], generator: np.random.Generator) -> None:
    """Insert a control, comment, application or other extension, with floods of sub-blocks or of extensions."""
    kind = numbers.choose((0xF9, 0xFE, 0xFF, 0x01, 0x55), generator)
    content = numbers.blob(generator, 255)[:255]
    extension = bytes([0x21, kind]) + numbers.repeat(bytes([len(content)]) + content, generator) + b"\0"
    place = int(generator.integers(len(blocks) + 1))
    blocks.insert(place, extension if generator.random() < 0.5 else numbers.repeat(extension[:300] + b"\0", generator))


def _resize_frame(blocks: list[bytes], generator: np.random.Generator) -> None:
    """Change the place, the size or the flags (interlace, palette) of a frame."""
    for place, block in enumerate(blocks):
        if block.startswith(b","):
            sides = [min(numbers.side(generator), 65_535) for _ in range(4)]
            if generator.random() < 0.5:
                sides[:2] = 0, 0
            flags = block[9] ^ 0x40 if generator.random() < 0.5 else int(generator.integers(256))
            blocks[place] = b"," + struct.pack("<4H", *sides) + bytes([flags]) + block[10:]


def _replace_data(blocks: list[bytes], generator: np.random.Generator) -> None:
    """Replace the image data by other LZW codes: random ones, or runs of growing length."""
    data = numbers.blob(generator, 1e6)
    parts = b"".join(
        bytes([len(part)]) + part for part in (data[start : start + 255] for start in range(0, len(data), 255))
    )
    bits = bytes([numbers.choose((0, 1, 2, 4, 8, 8, 11, 12, 255), generator)])
    frame = b"," + struct.pack("<4HB", 0, 0, 96, 64, 0) + bits + parts + b"\0"
    blocks[int(generator.integers(len(blocks) + 1)) :] = [frame]
