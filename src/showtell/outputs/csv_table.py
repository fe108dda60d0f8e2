"""Captions in a CSV file."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

from showtell.outputs.line_file import LineFile
from showtell.outputs.records import Record


class CsvTable(LineFile):
    """A CSV file with a header.

    Users may add columns, and remove or reorder columns except for `path` and `caption`. A last line without a line
    break is kept if it has all columns, because some editors do not end the last line.
    """

    COLUMNS = ("path", "caption", "confidence", "needs_review", "error")

    def __init__(self, path: Path, overwrite: bool = False):
        self._columns = list(self.COLUMNS)
        super().__init__(path, overwrite)

    def _header(self) -> bytes:
        return _row(self.COLUMNS)

    def _line(self, record: Record) -> bytes:
        values = {name: json.dumps(value) if isinstance(value, bool) else value for name, value in record.items()}
        return _row([values.get(name, "") for name in self._columns])

    def _read(self, content: bytes) -> Iterator[tuple[Record | None, int]]:
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
                record = {"path": "", **dict(zip(self._columns, row, strict=False))}
                yield cast("Record", record), (end := ends[rows.line_num - 1])
        except csv.Error:
            if b"\n" in content[end:]:
                raise self._invalid_line(rows.line_num) from None


def _row(values: Sequence[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode("utf-8", "surrogateescape")
