"""Lock files, which also work between machines that share a file system."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Errors of file systems without locks, such as some network file systems.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def file_lock(path: Path, timeout: float) -> Iterator[bool]:
    """Hold the lock of a file, which is created for this purpose and removed at the end.

    The operating system releases the lock when the process ends, even if it is killed. Yield whether the file is
    locked: False on a file system without locks.

    Args:
        path: the lock file.
        timeout: seconds to wait for another process; -1 waits without a limit.

    Raises:
        TimeoutError: if another process holds the lock.
        OSError: if the file cannot be written.
    """
    from filelock import FileLock  # takes longer to import than the rest of this module

    lock = FileLock(path, timeout=timeout, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        yield lock.is_locked
    finally:
        # The file is removed before the lock is released. A waiting process notices this and creates a new lock file.
        with suppress(OSError):  # Windows cannot remove an open file; filelock does it after the release
            path.unlink()
        lock.release()
