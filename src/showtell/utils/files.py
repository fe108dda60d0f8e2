"""Atomic writing of files, and other helpers for files and folders."""

import errno
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from showtell.errors import ConfigurationError

_TEMPORARY_NAME = re.compile(r"\..*\.[0-9a-f]{8}\.([0-9]{1,9})-([0-9a-f]{8})\.tmp(\..*)?", re.DOTALL)
_START_TIME = time.time()


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to `path` on success, remove it on failure.

    The temporary path may become a file or a folder of files. Missing parent folders are created. The temporary name
    keeps the suffix, because some writers choose the format by it. It starts with a dot, so leftovers of a killed
    process are never read as output. The next process that writes to the folder removes them.
    """
    path = Path(path)
    ensure_dir(path.parent)
    remove_abandoned_files(path.parent)
    temporary = path.with_name(_temporary_name(path, f"{os.getpid()}-{_machine()}"))
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
    """Yield the temporary files of `atomic_write` for `path`, including those of other processes and of killed ones."""
    return path.parent.glob(_temporary_name(path, "[0-9]*", glob.escape))


def _temporary_name(path: Path, process: str, escape: Callable[[str], str] = str) -> str:
    """Return a name of valid length. The start of a long name is kept, and a checksum makes it unique."""
    start = os.fsdecode(os.fsencode(path.stem)[:100])
    checksum = zlib.crc32(os.fsencode(path.name))
    return f"{escape(f'.{start}.{checksum:08x}')}.{process}.tmp{escape(path.suffix)}"


@lru_cache(maxsize=1000)
def remove_abandoned_files(folder: Path) -> None:
    """Remove the temporary files that killed processes of this machine left in a folder.

    A process lists each folder once, so that writing many files into a large folder stays fast. On Windows, Python
    cannot check whether a process is running, so only `exclusive_lock` removes such files.
    """
    if os.name != "posix":
        return
    with suppress(OSError), os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(".")]
        for name in names:
            found = _TEMPORARY_NAME.fullmatch(name)
            if found and found[2] == _machine() and not _is_in_use(folder / name, int(found[1])):
                remove(folder / name)


def _is_in_use(temporary: Path, process: int) -> bool:
    if process == os.getpid():  # in a container, every run may have the same process ID
        return temporary.lstat().st_mtime >= _START_TIME
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


@cache
def _machine() -> str:
    """Return a hash of the host name, eight hexadecimal digits. A process ID is valid on one machine only."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def ensure_dir(folder: Path) -> None:
    """Create a directory and its parents if missing. Raises NotADirectoryError if a file has the same path."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from None


@contextmanager
def with_filename(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Add `path` to an OSError without a file name, such as "disk full", or with the name of a temporary file."""
    try:
        yield
    except OSError as error:
        if error.filename is None or error.filename == str(temporary):
            error.filename = str(path)
        raise


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content. Do nothing if it does not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def parse_path_list(content: bytes) -> list[str]:
    """Return the paths of a list with one path per line, or separated by NUL as `find -print0` writes them."""
    names = content.split(b"\0") if b"\0" in content else content.splitlines()
    return [os.fsdecode(name) for name in names if name]


def require_empty_dir(folder: Path, purpose: str) -> None:
    """Raise ConfigurationError unless a folder is new or empty, so that no file of the user is overwritten.

    Temporary files of killed processes do not count; they are removed.
    """
    remove_abandoned_files(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigurationError(f"{folder}: exists and is not an empty folder; choose a new folder for {purpose}")


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def memmap_dataset(path: str | Path, data: Any) -> Any:
    """Return a data set of an open HDF5 file as an array that stays valid after the file is closed.

    The array is memory-mapped if the file stores the data set contiguously.
    """
    import numpy as np  # most users of this module do not need NumPy

    offset = data.id.get_offset()
    if offset is None:  # compressed, chunked or empty
        return np.asarray(data)
    return np.memmap(path, dtype=data.dtype, mode="r", offset=offset, shape=data.shape)
