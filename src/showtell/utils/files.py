"""Writing files so that a reader never sees half of one."""

import errno
import glob
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from showtell.errors import ConfigurationError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    Missing parent folders are made. The temporary name keeps the suffix, because writers choose a format by it. It is
    hidden: what a killed process leaves is taken for nothing by anyone. What is written there may be a folder, too.
    """
    path = Path(path)
    ensure_dir(path.parent)
    temporary = path.with_name(_temporary_name(path, str(os.getpid())))
    try:
        with with_filename(path, temporary):
            yield temporary
            for part in temporary.iterdir() if temporary.is_dir() else [temporary]:
                with open(part, "rb") as file:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        remove(temporary)


def temporary_files(path: Path) -> Iterator[Path]:
    """Yield what `written_whole` of any process has beside `path`, or has left there."""
    return path.parent.glob(_temporary_name(path, "[0-9]*", glob.escape))


def _temporary_name(path: Path, process: str, escaped: Callable[[str], str] = str) -> str:
    """Return a name that is not too long where that of `path` is not; its checksum tells long names apart."""
    start = os.fsdecode(os.fsencode(path.stem)[:100])
    checksum = zlib.crc32(os.fsencode(path.name))
    return f"{escaped(f'.{start}.{checksum:08x}')}.{process}.tmp{escaped(path.suffix)}"


def ensure_dir(folder: Path) -> None:
    """Make a folder, and those that it is in, unless it is there. Raises OSError, and names what is in its way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from None


@contextmanager
def with_filename(path: Path, other: Path | None = None) -> Iterator[None]:
    """Have an OSError that names no file, as that of a full disk, or the `other`, name `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is None or error.filename == str(other):
            error.filename = str(path)
        raise


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; or nothing, if it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def parse_path_list(content: bytes) -> list[str]:
    """Return the paths in a list of them: one a line, or each ended by NUL as `find -print0` writes them."""
    names = content.split(b"\0") if b"\0" in content else content.splitlines()
    return [os.fsdecode(name) for name in names if name]


def require_empty_dir(folder: Path, purpose: str) -> None:
    """Raise ConfigurationError if there is anything in the folder, so that no file of a person is overwritten."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigurationError(f"{folder}: there are files in it; name a new folder for {purpose}")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def memmap_dataset(path: str | Path, data: Any) -> Any:
    """Return a data set of an open .h5 file as an array that outlives it, memory-mapped if it lies in one piece."""
    import numpy as np  # most that import this module need no numpy

    offset = data.id.get_offset()
    if offset is None:  # compressed, chunked or empty
        return np.asarray(data)
    return np.memmap(path, dtype=data.dtype, mode="r", offset=offset, shape=data.shape)
