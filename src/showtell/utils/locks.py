"""Locks that let only one process at a time write an output."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from showtell.errors import ConfigurationError
from showtell.utils.files import ensure_dir, remove, temporary_files, with_filename

# Errors of file systems without locks, such as some network file systems.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
SECONDS_TO_RETRY = 0.2  # covers the moment at which another process releases the lock


@contextmanager
def exclusive_lock(output: str | Path, *others: Path) -> Iterator[None]:
    """Lock an output against other processes, and remove the temporary files that killed processes left.

    The lock file is `.NAME.lock` next to the output. The operating system releases the lock when the process ends,
    even if it is killed. A leftover lock file has no effect. On a file system without locks, nothing is locked.

    Args:
        output: the file or folder to lock.
        others: files that are written together with it. Their temporary files are removed too.

    Raises:
        ConfigurationError: if another process holds the lock.
        OSError: if the lock file cannot be written. The error names the output.
    """
    output = Path(os.path.realpath(output))  # unlike Path.resolve, it accepts a symbolic link to itself
    with ExitStack() as stack:
        _acquire(output, stack)
        for path in (output, *others):
            for left_over in temporary_files(path):
                remove(left_over)
        yield


def _acquire(output: Path, stack: ExitStack) -> None:
    """Lock an output until the stack is closed."""
    from filelock import FileLock, Timeout  # takes longer to import than the rest of this module

    path = output.parent / f".{output.name}.lock"
    lock = FileLock(path, timeout=SECONDS_TO_RETRY, fallback_to_soft=False)
    with with_filename(output, path):
        ensure_dir(output.parent)
        try:
            stack.enter_context(lock)
        except Timeout:
            raise ConfigurationError(
                f"{output}: another showtell process is writing it; wait until it ends, or choose another output"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
    stack.callback(_remove_lock_file, path)


def _remove_lock_file(path: Path) -> None:
    # The file is removed before the lock is released. A waiting process notices this and creates a new lock file.
    with suppress(OSError):  # Windows cannot remove an open file; filelock does it after the release
        path.unlink()
