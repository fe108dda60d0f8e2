"""One process at a time for each output."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from showtell.errors import ConfigurationError
from showtell.utils.files import ensure_dir, remove, temporary_files, with_filename

try:
    import fcntl
except ImportError:  # Windows: two runs on one output are not kept apart there
    fcntl = None  # type: ignore[assignment]

# File systems without locks, such as some on a network, answer so.
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def exclusive_lock(output: str | Path, *beside: Path) -> Iterator[None]:
    """Keep other processes away from an output, file or folder, and remove what killed ones have left unfinished.

    The lock is on `.NAME.lock` beside the output. The kernel releases it when the process dies, however it does; the
    file that may then be left says nothing.

    Args:
        output: what is locked.
        beside: other files that are written together with it.

    Raises:
        ConfigurationError: if another process has the lock.
        OSError: if one cannot write beside the output; it names the output.
    """
    output = Path(output).resolve()
    lock = output.parent / f".{output.name}.lock"
    with with_filename(output, lock):
        ensure_dir(output.parent)
        descriptor = _locked(lock, output)
    try:
        for path in (output, *beside):
            for left in temporary_files(path):
                remove(left)
        yield
    finally:
        if fcntl:
            lock.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(lock: Path, output: Path) -> int:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        if not fcntl:
            return descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise ConfigurationError(
                f"{output}: another showtell is writing it; wait until it has ended, or name another output"
            ) from None
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                os.close(descriptor)
                raise
            return descriptor
        # Whoever had it may have removed the file in between; then another may lock a new one of that name.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                return descriptor
        os.close(descriptor)
