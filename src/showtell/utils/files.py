"""Atomic writing of files, and other helpers for files and folders."""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from showtell.errors import ConfigurationError
from showtell.utils.file_locks import file_lock

_LOCK_NAME = re.compile(r"\..*\.[0-9a-f]{16}\.tmp(\..*)?\.lock", re.DOTALL)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to `path` on success, remove it on failure.

    The temporary path may become a file or a folder of files. Missing parent folders are created. The temporary name
    keeps the suffix, because some writers choose the format by it. It starts with a dot, so leftovers of a killed
    process are never read as output. The next process that writes to the folder removes them.
    """
    path = Path(path)
    ensure_dir(path.parent)
    _remove_abandoned_files_once(path.parent)
    temporary = path.with_name(_temporary_name(path))
    lock = temporary.with_name(f"{temporary.name}.lock")
    with with_filename(path, temporary, lock), file_lock(lock, timeout=-1):
        try:
            yield temporary
            for part in temporary.iterdir() if temporary.is_dir() else [temporary]:
                with open(part, "rb") as file:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            remove(temporary)


def _temporary_name(path: Path) -> str:
    """Return a unique name of valid length, which has the start of a long name."""
    start = os.fsdecode(os.fsencode(path.stem)[:100])
    return f".{start}.{secrets.token_hex(8)}.tmp{path.suffix}"


def remove_abandoned_files(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder.

    While a process writes the temporary file NAME, it holds the lock of NAME.lock. Only a file whose lock is free is
    removed, so a file in use stays, whichever machine or container uses it. On a file system without locks, nothing is
    removed.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if _LOCK_NAME.fullmatch(entry.name)]:
            with suppress(OSError), file_lock(folder / name, timeout=0) as is_locked:
                if is_locked:
                    remove(folder / name.removesuffix(".lock"))


# A process lists each folder once, so that writing many files into a large folder stays fast.
_remove_abandoned_files_once = lru_cache(maxsize=1000)(remove_abandoned_files)


def ensure_dir(folder: Path) -> None:
    """Create a directory and its parents if missing. Raises NotADirectoryError if a file has the same path."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from None


@contextmanager
def with_filename(path: Path, *temporary: Path) -> Iterator[None]:
    """Add `path` to an OSError without a file name, such as "disk full", or with the name of a temporary file."""
    try:
        yield
    except OSError as error:
        if error.filename is None or error.filename in map(str, temporary):
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
