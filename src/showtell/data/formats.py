"""The formats of caption files: each is read into rows of image, captions and split."""

import csv
import io
import json
import re
import reprlib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from showtell.errors import CaptionFileError

# Captions as a file gives them; an image may have several rows:
# the line or entry (for messages), the image's name, captions, and the word for the split if there is one.
Row = tuple[str, str, Sequence[str], str | None]

_IMAGE_COLUMNS = ("file_name", "filename", "image", "image_name", "path", "file")
_CAPTION_COLUMNS = ("caption", "captions", "text", "comment", "sentence", "description", "alt")
_SPLIT_COLUMNS = ("split", "set", "subset", "partition")
_FLICKR_LINE = re.compile(r"([^\t]+)#\d+\t(.*)")

_KINDS = {str: "text", int: "a number", list: "a list", type(None): "null"}

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
shorten = _short.repr


def detect_format(path: Path, text: str) -> str:
    """Return the name of the format that a file seems to have."""
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return "jsonl"
    first = text.lstrip().partition("\n")[0]
    if first.startswith(("{", "[")):
        # Inside a JSON string the quotation marks would be escaped, so these can only be keys or whole values.
        if '"sentences"' in text:
            return "karpathy"
        return "coco" if '"images"' in text or first.startswith("[") else "jsonl"
    if _FLICKR_LINE.match(first):
        return "flickr"
    return "tsv" if "\t" in first else "csv"


def _coco(text: str) -> Iterator[Row]:
    data = _json(text)
    names: dict[Any, str] = {}
    for number, image in enumerate(_member(data, "images", "the file", list)):
        where = f"images[{number}]"
        identity = _member(image, "id", where, int, str)
        if identity in names:
            raise CaptionFileError(f"{where}: the id {shorten(identity)} occurs a second time")
        names[identity] = _member(image, "file_name", where, str)
        yield where, names[identity], (), None
    for number, annotation in enumerate(_member(data, "annotations", "the file", list)):
        where = f"annotations[{number}]"
        identity = _member(annotation, "image_id", where, int, str)
        if identity not in names:
            raise CaptionFileError(f"{where}: the image_id {shorten(identity)} is the id of no entry of images")
        yield where, names[identity], (_member(annotation, "caption", where, str),), None


def _karpathy(text: str) -> Iterator[Row]:
    for number, image in enumerate(_member(_json(text), "images", "the file", list)):
        where = f"images[{number}]"
        name = _member(image, "filename", where, str)
        if folder := "filepath" in image and _member(image, "filepath", where, str):
            name = f"{folder}/{name}"
        captions = [
            _member(sentence, "raw", f"{where}.sentences[{position}]", str)
            for position, sentence in enumerate(_member(image, "sentences", where, list))
        ]
        word = _member(image, "split", where, str) if "split" in image else None
        yield where, name, captions, word


def _flickr(text: str) -> Iterator[Row]:
    for where, line in lines(text):
        match = _FLICKR_LINE.fullmatch(line)
        if not match:
            raise CaptionFileError(f"{where}: {shorten(line)}; expected NAME#NUMBER, a tab and a caption")
        yield where, match[1], (match[2],), None


def _table(text: str, delimiters: str) -> Iterator[Row]:
    """Read a table whose first row names the columns, divided by the delimiter that this row has the most of."""
    delimiter = max(delimiters, key=text.strip().partition("\n")[0].count)
    rows = _cells(text, delimiter)
    where, header = next(rows, ("line 1", []))
    names = [name.lower() for name in header]
    image, caption, split = _columns(names, where)
    for where, cells in rows:
        if any(cells[len(names) :]):
            raise CaptionFileError(
                f"{where}: {len(cells)} cells, but the header has {len(names)}; "
                f"put a caption that contains {delimiter!r} between quotation marks"
            )
        # A short row has no caption: Flickr30k's results.csv is known for one.
        row = dict(zip(names, cells, strict=False))
        yield where, row.get(image, ""), (row.get(caption, ""),), row.get(split) if split else None


def _jsonl(text: str) -> Iterator[Row]:
    for where, line in lines(text):
        record = _json(line, where)
        if not isinstance(record, dict):
            raise CaptionFileError(f"{where}: {shorten(record)}; expected an object with an image and a caption")
        record = {key.lower(): value for key, value in record.items()}
        image, caption, split = _columns(record, where)
        captions = _member(record, caption, where, str, list)
        if isinstance(captions, str):
            captions = [captions]
        for item in captions:
            if not isinstance(item, str):
                raise CaptionFileError(f"{where}: the caption {shorten(item)}; expected text")
        word = _member(record, split, where, str, type(None)) if split else None
        yield where, _member(record, image, where, str), captions, word


def _columns(names: Collection[str], where: str) -> tuple[str, str, str]:
    """Return the names of the columns for the image, the caption and the split; the last is "" if there is none."""
    image, caption, split = (
        next((column for column in columns if column in names), "")
        for columns in (_IMAGE_COLUMNS, _CAPTION_COLUMNS, _SPLIT_COLUMNS)
    )
    if not image or not caption:
        raise CaptionFileError(
            f"{where}: {shorten(list(names))}; expected a name for the image ({', '.join(_IMAGE_COLUMNS)}) "
            f"and one for the caption ({', '.join(_CAPTION_COLUMNS)})"
        )
    return image, caption, split


def lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield the lines that are not blank, each with its place in words."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", line


def _cells(text: str, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the rows of a table that are not blank, each with the line on which it begins."""
    rows = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    line = 1
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield f"line {line}", cells
            line = rows.line_num + 1
    except csv.Error as error:
        raise CaptionFileError(f"line {line}: {error}; is a quotation mark not closed or not doubled?") from None


def _json(text: str, where: str | None = None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise CaptionFileError(f"{where or f'line {error.lineno}'}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # absurdly long numbers, absurdly deep lists
        raise CaptionFileError(f"{where or 'the file'}: JSON that cannot be read: {error}") from None


def _member(record: Any, key: str, where: str, *kinds: type) -> Any:
    if isinstance(record, dict) and isinstance(value := record.get(key), kinds):
        return value
    if not isinstance(record, dict):
        raise CaptionFileError(f"{where}: {shorten(record)}; expected an object with the key {key!r}")
    if key not in record:
        raise CaptionFileError(f"{where}: the key {key!r} is missing")
    expected = " or ".join(_KINDS[kind] for kind in kinds)
    raise CaptionFileError(f"{where}: {key!r} is {shorten(record[key])}; expected {expected}")


READERS: dict[str, Callable[[str], Iterator[Row]]] = {
    "coco": _coco,
    "karpathy": _karpathy,
    "flickr": _flickr,
    "csv": partial(_table, delimiters=",;|"),
    "tsv": partial(_table, delimiters="\t"),
    "jsonl": _jsonl,
}
