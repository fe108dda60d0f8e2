"""Locks that let only one process at a time write an output."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from showtell.errors import ConfigurationError
from showtell.utils.file_locks import file_lock
from showtell.utils.files import ensure_dir, remove_abandoned_files, with_filename

SECONDS_TO_RETRY = 0.2  # covers the moment at which another process releases the lock


@contextmanager
def exclusive_lock(output: str | Path) -> Iterator[None]:
    """Lock an output against other processes, and remove the temporary files that killed processes left next to it.

    The lock file is `.NAME.lock` next to the output. A leftover lock file has no effect. On a file system without
    locks, nothing is locked.

    Args:
        output: the file or folder to lock.

    Raises:
        ConfigurationError: if another process holds the lock.
        OSError: if the lock file cannot be written. The error names the output.
    """
    output = Path(os.path.realpath(output))  # unlike Path.resolve, it accepts a symbolic link to itself
    path = output.parent / f".{output.name}.lock"
    with ExitStack() as stack:
        with with_filename(output, path):
            ensure_dir(output.parent)
            try:
                stack.enter_context(file_lock(path, SECONDS_TO_RETRY))
            except TimeoutError:
                raise ConfigurationError(
                    f"{output}: another showtell process is writing it; wait until it ends, or choose another output"
                ) from None
        remove_abandoned_files(output.parent)
        yield
