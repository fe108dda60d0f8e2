"""Captions in a CSV file."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain, repeat
from pathlib import Path
from typing import Literal, cast

from showtell.outputs.line_file import LineFile
from showtell.outputs.records import Record

# The beginning of a cell that a spreadsheet may interpret as a formula
# (https://owasp.org/www-community/attacks/CSV_Injection), after any number of apostrophes.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


class CsvTable(LineFile):
    """A CSV file with a header.

    Users may add columns, and remove or reorder columns except for `path` and `caption`. A last line without a line
    break is kept if it has all columns, because some editors do not end the last line.

    Args:
        path: the file; created if missing.
        overwrite: replace a file that this class wrote, instead of appending to it.
        spreadsheet_safe: put an apostrophe in front of cells that a spreadsheet may interpret as formulas. Use the same
            value when appending to an existing file.
    """

    COLUMNS = ("path", "caption", "confidence", "needs_review", "error")

    def __init__(self, path: Path, overwrite: bool = False, spreadsheet_safe: bool = False):
        self._spreadsheet_safe = spreadsheet_safe
        super().__init__(path, overwrite)

    def _header(self) -> bytes:
        return _row(self.COLUMNS)

    def _line(self, record: Record) -> bytes:
        values = {name: json.dumps(value) if isinstance(value, bool) else value for name, value in record.items()}
        cells = [str(values.get(name, "")) for name in self._columns]
        if self._spreadsheet_safe:
            # Quotes keep a spreadsheet with another separator from splitting a cell.
            return _row(map(_escape_formula, cells), csv.QUOTE_ALL)
        return _row(cells)

    def _is_own(self, record: Record | None) -> bool:
        names = self._columns if record is None else record
        return sorted(names) == sorted(self.COLUMNS)

    def _is_own_start(self, content: bytes) -> bool:
        return not content or content.startswith(self.COLUMNS[0].encode())

    def _read(self, content: bytes) -> Iterator[tuple[Record | None, int]]:
        self._columns = list(self.COLUMNS)
        header = self._header()
        if content != header and header.startswith(content):
            return
        # surrogateescape keeps the bytes of paths that are not UTF-8.
        lines = list(io.StringIO(content.decode("utf-8", "surrogateescape"), newline=""))
        ends = list(accumulate(len(line.encode("utf-8", "surrogateescape")) for line in lines))
        rows = csv.reader(lines, strict=True)
        end = 0
        try:
            self._columns = [name.removeprefix("\ufeff") for name in next(rows)]
            if not {"path", "caption"} <= set(self._columns):
                raise self._invalid_line(1)
            yield None, (end := ends[rows.line_num - 1])
            for row in rows:
                if b"\n" not in content[end:] and len(row) < len(self._columns):
                    return
                cells = map(_unescape_formula, row) if self._spreadsheet_safe else row
                names = chain(self._columns, repeat(""))  # "" is the name of surplus cells
                record = {"path": "", **dict(zip(names, cells, strict=False))}
                yield cast("Record", record), (end := ends[rows.line_num - 1])
        except csv.Error:
            if b"\n" in content[end:]:
                raise self._invalid_line(rows.line_num) from None


def _escape_formula(cell: str) -> str:
    return f"'{cell}" if _FORMULA.match(cell) else cell


def _unescape_formula(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _row(values: Iterable[str], quoting: Literal[0, 1] = csv.QUOTE_MINIMAL) -> bytes:
    text = io.StringIO()
    csv.writer(text, quoting=quoting).writerow(
        values
    )  # with another line terminator, Python 3.11 would not quote a carriage return
    return (text.getvalue().removesuffix("\r\n") + "\n").encode("utf-8", "surrogateescape")
