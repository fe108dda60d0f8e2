"""Files with one entry per image that a later run can continue."""

import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from showtell.errors import CaptionFileError, ConfigurationError
from showtell.inference.caption import Caption
from showtell.outputs.output import ResumableOutput
from showtell.outputs.records import Record
from showtell.utils.files import ensure_dir, with_filename

logger = logging.getLogger(__name__)


class LineFile(ResumableOutput):
    """A file with one entry per image. If an image has several entries, the last one counts.

    An interrupted run leaves at most one incomplete line. It is removed when the file is opened again.

    Args:
        path: the file; created if missing.
        overwrite: replace a file that this class wrote, instead of appending to it.

    Attributes:
        path: the file.
        incomplete_line: the incomplete last line that was removed, or b"".

    Raises:
        ConfigurationError: if the path exists and is not a file.
        CaptionFileError: if another program wrote the file, which then stays unchanged.
    """

    def __init__(self, path: Path, overwrite: bool = False):
        if path.exists() and not path.is_file():
            raise ConfigurationError(f"{path}: not a file; choose a new file for the captions")
        self.path = path
        self._captioned: set[str] = set()
        self._errors: dict[str, str] = {}
        content = path.read_bytes() if path.exists() else b""
        if overwrite:
            self._require_own(content)
            content = b""
        end = 0
        for record, record_end in self._read(content):
            end = record_end
            if record is not None:
                self._remember(record)
        self.incomplete_line = content[end:].strip()
        if self.incomplete_line:
            logger.warning(
                "%s: removed an incomplete last line left by an interrupted run: %r", path, self.incomplete_line[:200]
            )
        ensure_dir(path.parent)
        with with_filename(path), open(path, "ab") as file:
            file.truncate(end)
            if end and not content[:end].endswith(b"\n"):
                file.write(b"\n")
            if end == 0:
                file.write(self._header())

    def has(self, path: str) -> bool:
        """Return whether the file has a caption of this image. An error does not count."""
        return path in self._captioned

    def add(self, record: Record, captions: Sequence[Caption] = ()) -> None:
        """Append a record, unless the file already has a caption of the image or the same error."""
        path = record["path"]
        if self.has(path) or ("error" in record and self._errors.get(path) == record["error"]):
            return
        with with_filename(self.path), open(self.path, "ab") as file:
            file.write(self._line(record))
        self._remember(record)

    def _require_own(self, content: bytes) -> None:
        """Raise CaptionFileError unless this class wrote the content, so that other data are never replaced."""
        try:
            records = [record for record, _ in self._read(content)]
            is_own = all(map(self._is_own, records)) if records else self._is_own_start(content)
        except CaptionFileError:
            is_own = False
        if not is_own:
            raise CaptionFileError(
                f"{self.path}: not written by `showtell caption`, so --overwrite does not replace it; remove it, or "
                "choose another file"
            )

    def _remember(self, record: Record) -> None:
        if record.get("caption"):
            self._captioned.add(record["path"])
        else:
            self._errors[record["path"]] = record.get("error", "")

    def _invalid_line(self, number: int) -> CaptionFileError:
        return CaptionFileError(
            f"{self.path}: line {number} was not written by `showtell caption`; choose another file"
        )

    @abstractmethod
    def _header(self) -> bytes:
        """Return the first line of a new file, or b""."""

    @abstractmethod
    def _line(self, record: Record) -> bytes:
        """Return a record as a line of the file."""

    @abstractmethod
    def _is_own(self, record: Record | None) -> bool:
        """Return whether a record, or the header if it is None, has exactly the keys that this class writes."""

    @abstractmethod
    def _is_own_start(self, content: bytes) -> bool:
        """Return whether content without a complete line is empty, or was written by this class."""

    @abstractmethod
    def _read(self, content: bytes) -> Iterator[tuple[Record | None, int]]:
        """Yield the complete records of a file, and None for the header, each with the offset of its end.

        Raises:
            CaptionFileError: if a line cannot be parsed.
        """
