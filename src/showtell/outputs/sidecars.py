"""Captions in sidecar files next to the images."""

import hashlib
import logging
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from showtell.errors import ConfigurationError
from showtell.inference.caption import Caption
from showtell.outputs.output import ResumableOutput
from showtell.outputs.records import Record
from showtell.utils.files import atomic_write, remove_abandoned_files, with_filename
from showtell.utils.text import plural

RECORD_NAME = ".showtell-sidecars"
_MAX_BYTES = 1_000_000  # larger files are not captions
_MAX_RECORD_BYTES = 100_000_000  # three million sidecar files in one folder

logger = logging.getLogger(__name__)


class Sidecars(ResumableOutput):
    """A text file next to each image, NAME.txt for NAME.jpg, as expected by tools that train image models.

    A caption that needs review is not written, because a text file cannot mark it.

    A text file does not say which program wrote it. The hidden file RECORD_NAME in each folder therefore records the
    sidecar files that were written. Each line is the fingerprint of a name and content, so an edited file has none.

    Args:
        images: the paths of all images. If several have the same sidecar file, it belongs to the first one.
        overwrite: replace existing files whose name and content are in the record. Log a warning about other files.

    Raises:
        ConfigurationError: if a record is not a regular file.
    """

    is_per_image = True

    def __init__(self, images: Iterable[str], overwrite: bool = False):
        self._owners: dict[Path, str] = {}
        for path in images:
            self._owners.setdefault(_sidecar(path), path)
        for folder in {sidecar.parent for sidecar in self._owners}:
            _check_record(folder / RECORD_NAME)
            remove_abandoned_files(folder)
        self._replaceable = _find_recorded(self._owners) if overwrite else set()
        if overwrite:
            self._warn_about_kept_files()

    def has(self, path: str) -> bool:
        """Return whether the sidecar file of this image exists and is not to be replaced."""
        sidecar = _sidecar(path)
        if sidecar == Path(path) or self._owners[sidecar] != path:
            return False
        return sidecar not in self._replaceable and os.path.lexists(sidecar)

    def add(self, record: Record, captions: Sequence[Caption] = ()) -> None:
        """Write the sidecar file of an image, unless it exists and is not to be replaced.

        Raises:
            ConfigurationError: if the file would replace the image itself or the sidecar file of another image.
        """
        if "error" in record or record.get("needs_review"):
            return
        path = record["path"]
        sidecar = _sidecar(path)
        if (owner := self._owners[sidecar]) != path or sidecar == Path(path):
            raise ConfigurationError(
                f"{path!r}: its sidecar file {sidecar.name!r} belongs to {owner!r}; rename one of the images"
            )
        if self.has(path):
            return
        content = (record["caption"] + "\n").encode()
        _append_to_record(sidecar, content)
        with atomic_write(sidecar) as temporary:
            temporary.write_bytes(content)
        self._replaceable.discard(sidecar)

    def _warn_about_kept_files(self) -> None:
        kept = [path for path in self._owners if path not in self._replaceable and os.path.lexists(path)]
        if kept:
            logger.warning(
                "kept %s that showtell did not write or that were edited, such as %s; delete them to write them again",
                plural(len(kept), "sidecar file"),
                kept[0],
            )


def _sidecar(path: str) -> Path:
    return Path(path).with_suffix(".txt")


def _fingerprint(sidecar: Path, content: bytes) -> bytes:
    return hashlib.sha256(os.fsencode(sidecar.name) + b"\0" + content).hexdigest()[:32].encode()


def _check_record(path: Path) -> None:
    """Raise ConfigurationError if a record is a link or pipe, or too large. Folders of strangers may contain such."""
    try:
        info = path.lstat()
    except OSError:
        return
    if not stat.S_ISREG(info.st_mode) or info.st_size > _MAX_RECORD_BYTES:
        raise ConfigurationError(f"{path}: not a record of sidecar files, or too large; remove it")


def _append_to_record(sidecar: Path, content: bytes) -> None:
    """Record a sidecar file before it is written. If writing fails, the line matches no file and is harmless."""
    path = sidecar.with_name(RECORD_NAME)
    with with_filename(path), open(path, "ab") as file:
        file.write(_fingerprint(sidecar, content) + b"\n")


def _find_recorded(sidecars: Iterable[Path]) -> set[Path]:
    """Return the sidecar files whose current content showtell wrote."""
    records: dict[Path, frozenset[bytes]] = {}
    for folder in {sidecar.parent for sidecar in sidecars}:
        with suppress(OSError):
            records[folder] = frozenset((folder / RECORD_NAME).read_bytes().split(b"\n"))
    return {sidecar for sidecar in sidecars if _is_recorded(sidecar, records.get(sidecar.parent, frozenset()))}


def _is_recorded(sidecar: Path, record: frozenset[bytes]) -> bool:
    try:
        info = sidecar.lstat()
        if stat.S_ISDIR(info.st_mode):
            return True  # the attempt to replace it reports an error
        if not stat.S_ISREG(info.st_mode) or info.st_size > _MAX_BYTES:
            return False
        return _fingerprint(sidecar, sidecar.read_bytes()) in record
    except OSError:
        return False
