"""Where captions are kept: in JSON Lines, in a table, in a text beside each image.

All know what they have already, so that a second run goes on where the first stopped and nobody's text is overwritten.
Files grow by a line for each image: a run that is killed leaves half a line at most, which the next one takes away.
"""

import csv
import io
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from showtell.errors import CaptionFileError, ConfigurationError
from showtell.inference.captioner import CaptionResult
from showtell.utils.files import atomic_write, ensure_dir, with_filename

Entry = dict[str, Any]


def entry_of(result: CaptionResult, min_confidence: float | None, several: bool) -> Entry:
    """Return what came of an image: "path", and "error" or "caption" with all that is known of it.

    Args:
        result: of an image that was given by its path.
        min_confidence: if given, "needs_review" tells whether the caption has less.
        several: give all captions, too, as "captions".
    """
    path = str(result.source)
    if result.error is not None:
        return {"path": path, "error": str(result.error)}
    best = result.captions[0]
    entry: Entry = {"path": path, "caption": best.text}
    if best.confidence is not None:
        entry["confidence"] = round(best.confidence, 3)
    if min_confidence is not None:
        entry["needs_review"] = (best.confidence or 0) < min_confidence
    if several:
        entry["captions"] = [
            {"caption": found.text, "log_prob": round(found.log_prob, 4), "score": round(found.score, 4)}
            for found in result.captions
        ]
    return entry


class Output(Protocol):
    """A place for what came of images: entries with "path" and either "caption" or "error", and perhaps more."""

    def has(self, path: str) -> bool:
        """Tell whether there is a caption of this image already."""

    def add(self, entry: Entry) -> None:
        """Keep an entry, unless there is a caption of its image already."""


class _Lines(ABC):
    """A file that grows by an entry at a time. Of several entries of an image, the last counts.

    Attributes:
        path: the file.
        incomplete_line: an incomplete last line left by an interrupted run, which is removed; or b"".

    Raises:
        ConfigurationError: if there is something that is no file.
        CaptionFileError: if there is a file that was not written by this class; it is left as it is.
    """

    def __init__(self, path: Path, overwrite: bool = False):
        if path.exists() and not path.is_file():
            raise ConfigurationError(f"{path}: not a file; name a new one for the captions")
        self.path = path
        self._captioned: set[str] = set()
        self._errors: dict[str, str] = {}
        content = path.read_bytes() if path.exists() and not overwrite else b""
        end = 0
        for entry, entry_end in self._read(content):
            end = entry_end
            if entry is not None:
                self._remember(entry)
        self.incomplete_line = content[end:].strip()
        ensure_dir(path.parent)
        with with_filename(path), open(path, "ab") as file:
            file.truncate(end)
            if end and not content[:end].endswith(b"\n"):
                file.write(b"\n")
            if end == 0:
                file.write(self._beginning())

    def has(self, path: str) -> bool:
        """Tell whether there is a caption of this image already; an error is none."""
        return path in self._captioned

    def add(self, entry: Entry) -> None:
        """Write an entry, unless there is a caption of its image, or the same error."""
        path = entry["path"]
        if self.has(path) or ("error" in entry and self._errors.get(path) == entry["error"]):
            return
        with with_filename(self.path), open(self.path, "ab") as file:
            file.write(self._line(entry))
        self._remember(entry)

    def _remember(self, entry: Entry) -> None:
        if entry.get("caption"):
            self._captioned.add(entry["path"])
        else:
            self._errors[entry["path"]] = entry.get("error", "")

    def _not_ours(self, line: int) -> CaptionFileError:
        return CaptionFileError(f"{self.path}: line {line} is not as showtell caption writes it; name another file")

    @abstractmethod
    def _beginning(self) -> bytes:
        """Return what a new file begins with."""

    @abstractmethod
    def _line(self, entry: Entry) -> bytes:
        """Return an entry as it is written."""

    @abstractmethod
    def _read(self, content: bytes) -> Iterator[tuple[Entry | None, int]]:
        """Yield the whole entries of a file, None for its header, each with where it ends. Raises CaptionFileError."""


class JsonLines(_Lines):
    """A file with a JSON object on each line."""

    def _beginning(self) -> bytes:
        return b""

    def _line(self, entry: Entry) -> bytes:
        return json.dumps(entry).encode() + b"\n"

    def _read(self, content: bytes) -> Iterator[tuple[Entry | None, int]]:
        end, begins = 0, b'{"path": '
        for number, line in enumerate(content.splitlines(keepends=True), 1):
            end += len(line)
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                if end == len(content) and line.startswith(begins[: len(line)]) and not line.endswith(b"\n"):
                    return
                raise self._not_ours(number) from None
            if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
                raise self._not_ours(number)
            yield entry, end


class Table(_Lines):
    """A CSV file with a header; a person may have added columns to it, or taken any but path and caption away.

    A last line without its end stays if it has all columns, for it may be a person's, who does not end lines.
    """

    COLUMNS = ("path", "caption", "confidence", "needs_review", "error")

    def __init__(self, path: Path, overwrite: bool = False):
        self._columns = list(self.COLUMNS)
        super().__init__(path, overwrite)

    def _beginning(self) -> bytes:
        return self._row(self.COLUMNS)

    def _line(self, entry: Entry) -> bytes:
        values = {name: json.dumps(value) if isinstance(value, bool) else value for name, value in entry.items()}
        return self._row([values.get(name, "") for name in self._columns])

    def _read(self, content: bytes) -> Iterator[tuple[Entry | None, int]]:
        if (beginning := self._beginning()) != content and beginning.startswith(content):
            return
        # Paths need not be UTF-8; this way their bytes are kept.
        lines = list(io.StringIO(content.decode("utf-8", "surrogateescape"), newline=""))
        ends = list(accumulate(len(line.encode("utf-8", "surrogateescape")) for line in lines))
        rows = csv.reader(lines, strict=True)
        end = 0
        try:
            self._columns = [name.removeprefix("\ufeff") for name in next(rows)]
            if not {"path", "caption"} <= set(self._columns):
                raise self._not_ours(1)
            yield None, (end := ends[rows.line_num - 1])
            for row in rows:
                if b"\n" not in content[end:] and len(row) < len(self._columns):
                    return
                yield {"path": "", **dict(zip(self._columns, row, strict=False))}, (end := ends[rows.line_num - 1])
        except csv.Error:
            if b"\n" in content[end:]:
                raise self._not_ours(rows.line_num) from None

    def _row(self, values: Any) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        return text.getvalue().encode("utf-8", "surrogateescape")


class Sidecars:
    """A text beside each image, NAME.txt for NAME.jpg, as tools that train image models read it.

    A caption that needs review is not written: a text cannot say that it does.

    Args:
        images: the paths of all images; of several with the same text, it is the first one's.
        overwrite: write over texts that are there.
    """

    def __init__(self, images: Iterable[str], overwrite: bool = False):
        self._overwrite = overwrite
        self._owners: dict[Path, str] = {}
        for path in images:
            self._owners.setdefault(Path(path).with_suffix(".txt"), path)
        self._written: set[Path] = set()

    def has(self, path: str) -> bool:
        """Tell whether there is such a text already, whosever it is."""
        text = Path(path).with_suffix(".txt")
        if text == Path(path) or self._owners[text] != path:
            return False
        return text in self._written or (not self._overwrite and os.path.lexists(text))

    def add(self, entry: Entry) -> None:
        """Write the text of an image, unless there is one.

        Raises:
            ConfigurationError: if it would take the place of the image, or of the text of another image.
        """
        if "error" in entry or entry.get("needs_review"):
            return
        path = entry["path"]
        text = Path(path).with_suffix(".txt")
        if (other := self._owners[text]) != path or text == Path(path):
            raise ConfigurationError(
                f"{path!r}: its text would be {text.name!r}, as that of {other!r}; rename one of them"
            )
        if self.has(path):
            return
        with atomic_write(text) as temporary:
            temporary.write_text(entry["caption"] + "\n", encoding="utf-8")
        self._written.add(text)
