"""Captions in JSON Lines."""

import json
from collections.abc import Iterator

from showtell.outputs.line_file import LineFile
from showtell.outputs.records import Record

_LINE_START = b'{"path": '


class JsonLines(LineFile):
    """A file with one JSON object per line."""

    def _header(self) -> bytes:
        return b""

    def _line(self, record: Record) -> bytes:
        return json.dumps(record).encode() + b"\n"

    def _is_own(self, record: Record | None) -> bool:
        return (
            record is not None
            and record.keys() <= Record.__annotations__.keys()
            and ("caption" in record) != ("error" in record)
        )

    def _is_own_start(self, content: bytes) -> bool:
        return not content or content.startswith(_LINE_START)

    def _read(self, content: bytes) -> Iterator[tuple[Record | None, int]]:
        end = 0
        for number, line in enumerate(content.splitlines(keepends=True), 1):
            end += len(line)
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                if end == len(content) and line.startswith(_LINE_START[: len(line)]) and not line.endswith(b"\n"):
                    return
                raise self._invalid_line(number) from None
            if not isinstance(record, dict) or not isinstance(record.get("path"), str):
                raise self._invalid_line(number)
            yield record, end  # type: ignore[misc]  # other keys are not read
