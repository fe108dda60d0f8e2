"""Training: the only part of showtell that imports Keras."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from showtell.errors import import_extra

# This must be set before TensorFlow is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def require_keras(feature: str) -> None:
    """Load Keras and its backend. Raises MissingExtra, which says what to install, if they are not there."""
    with _standard_error_closed():
        import_extra("keras", feature, "train")
    # It warns of compiling for several widths of batches, which is meant.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


@contextmanager
def _standard_error_closed() -> Iterator[None]:
    """Keep what a library in C++ writes to standard error from the screen.

    TensorFlow tells four lines of advice at every start, before it looks at its own log level.
    """
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
