"""Parsers of the caption file formats. Each yields rows of image, captions and split."""

import csv
import io
import json
import re
import reprlib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from showtell.errors import CaptionFileError


class Row(NamedTuple):
    """A row of a caption file, not yet validated. An image may have several rows.

    Attributes:
        location: the line or entry, for error messages.
        image: the image name in the file.
        captions: zero or more captions.
        split: the split name in the file, if any.
    """

    location: str
    image: str
    captions: Sequence[str]
    split: str | None = None


_IMAGE_COLUMNS = ("file_name", "filename", "image", "image_name", "path", "file")
_CAPTION_COLUMNS = ("caption", "captions", "text", "comment", "sentence", "description", "alt")
_SPLIT_COLUMNS = ("split", "set", "subset", "partition")
_FLICKR_LINE = re.compile(r"([^\t]+)#\d+\t(.*)")

_TYPE_NAMES = {str: "text", int: "a number", list: "a list", type(None): "null"}

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80
# Like repr, but truncated for error messages.
shorten = _repr.repr


def detect_format(path: Path, text: str) -> str:
    """Return the name of the most likely format of a file."""
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return "jsonl"
    first_line = text.lstrip().partition("\n")[0]
    if first_line.startswith(("{", "[")):
        # Quotation marks inside a JSON string are escaped, so these matches are keys or complete values.
        if '"sentences"' in text:
            return "karpathy"
        return "coco" if '"images"' in text or first_line.startswith("[") else "jsonl"
    if _FLICKR_LINE.match(first_line):
        return "flickr"
    return "tsv" if "\t" in first_line else "csv"


def numbered_lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield the location ("line N") and content of each non-blank line."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", line


def _read_coco(text: str) -> Iterator[Row]:
    data = _parse_json(text)
    names: dict[Any, str] = {}
    for index, image in enumerate(_get(data, "images", "the file", list)):
        location = f"images[{index}]"
        image_id = _get(image, "id", location, int, str)
        if image_id in names:
            raise CaptionFileError(f"{location}: duplicate id {shorten(image_id)}")
        names[image_id] = _get(image, "file_name", location, str)
        yield Row(location, names[image_id], ())
    for index, annotation in enumerate(_get(data, "annotations", "the file", list)):
        location = f"annotations[{index}]"
        image_id = _get(annotation, "image_id", location, int, str)
        if image_id not in names:
            raise CaptionFileError(f"{location}: no image has the image_id {shorten(image_id)}")
        yield Row(location, names[image_id], (_get(annotation, "caption", location, str),))


def _read_karpathy(text: str) -> Iterator[Row]:
    for index, image in enumerate(_get(_parse_json(text), "images", "the file", list)):
        location = f"images[{index}]"
        name = _get(image, "filename", location, str)
        if folder := "filepath" in image and _get(image, "filepath", location, str):
            name = f"{folder}/{name}"
        captions = [
            _get(sentence, "raw", f"{location}.sentences[{position}]", str)
            for position, sentence in enumerate(_get(image, "sentences", location, list))
        ]
        split = _get(image, "split", location, str) if "split" in image else None
        yield Row(location, name, captions, split)


def _read_flickr(text: str) -> Iterator[Row]:
    for location, line in numbered_lines(text):
        match = _FLICKR_LINE.fullmatch(line)
        if not match:
            raise CaptionFileError(f"{location}: {shorten(line)}; expected NAME#NUMBER, a tab and a caption")
        yield Row(location, match[1], (match[2],))


def _read_table(text: str, delimiters: str) -> Iterator[Row]:
    """Read a table with a header row, separated by the most frequent delimiter of this row."""
    delimiter = max(delimiters, key=text.strip().partition("\n")[0].count)
    rows = _read_cells(text, delimiter)
    location, header = next(rows, ("line 1", []))
    names = [name.lower() for name in header]
    image, caption, split = _find_columns(names, location)
    for location, cells in rows:
        if any(cells[len(names) :]):
            raise CaptionFileError(
                f"{location}: {len(cells)} cells, but the header has {len(names)}; "
                f"put captions that contain {delimiter!r} in quotation marks"
            )
        # A short row has no caption, as in the results.csv of Flickr30k.
        row = dict(zip(names, cells, strict=False))
        yield Row(location, row.get(image, ""), (row.get(caption, ""),), row.get(split) if split else None)


def _read_jsonl(text: str) -> Iterator[Row]:
    for location, line in numbered_lines(text):
        record = _parse_json(line, location)
        if not isinstance(record, dict):
            raise CaptionFileError(f"{location}: {shorten(record)}; expected an object with an image and a caption")
        record = {key.lower(): value for key, value in record.items()}
        image, caption, split = _find_columns(record, location)
        captions = _get(record, caption, location, str, list)
        if isinstance(captions, str):
            captions = [captions]
        for item in captions:
            if not isinstance(item, str):
                raise CaptionFileError(f"{location}: the caption is {shorten(item)}; expected text")
        split_name = _get(record, split, location, str, type(None)) if split else None
        yield Row(location, _get(record, image, location, str), captions, split_name)


def _find_columns(names: Collection[str], location: str) -> tuple[str, str, str]:
    """Return the names of the image, caption and split columns; "" if there is no split column."""
    image, caption, split = (
        next((column for column in columns if column in names), "")
        for columns in (_IMAGE_COLUMNS, _CAPTION_COLUMNS, _SPLIT_COLUMNS)
    )
    if not image or not caption:
        raise CaptionFileError(
            f"{location}: the columns are {shorten(list(names))}; expected one for the image "
            f"({', '.join(_IMAGE_COLUMNS)}) and one for the caption ({', '.join(_CAPTION_COLUMNS)})"
        )
    return image, caption, split


def _read_cells(text: str, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the location and the cells of each non-blank row. The location is the line where the row starts."""
    rows = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    line = 1
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield f"line {line}", cells
            line = rows.line_num + 1
    except csv.Error as error:
        raise CaptionFileError(f"line {line}: {error}; close all quotation marks, and double those in text") from None


def _parse_json(text: str, location: str | None = None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise CaptionFileError(f"{location or f'line {error.lineno}'}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # numbers with thousands of digits, lists nested too deeply
        raise CaptionFileError(f"{location or 'the file'}: cannot read the JSON: {error}") from None


def _get(record: Any, key: str, location: str, *types: type) -> Any:
    """Return a member of a JSON object. Raises CaptionFileError if it is missing or of another type."""
    if isinstance(record, dict) and isinstance(value := record.get(key), types):
        return value
    if not isinstance(record, dict):
        raise CaptionFileError(f"{location}: {shorten(record)}; expected an object with the key {key!r}")
    if key not in record:
        raise CaptionFileError(f"{location}: the key {key!r} is missing")
    expected = " or ".join(_TYPE_NAMES[kind] for kind in types)
    raise CaptionFileError(f"{location}: {key!r} is {shorten(record[key])}; expected {expected}")


READERS: dict[str, Callable[[str], Iterator[Row]]] = {
    "coco": _read_coco,
    "karpathy": _read_karpathy,
    "flickr": _read_flickr,
    "csv": partial(_read_table, delimiters=",;|"),
    "tsv": partial(_read_table, delimiters="\t"),
    "jsonl": _read_jsonl,
}
