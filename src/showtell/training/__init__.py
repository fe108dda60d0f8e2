"""Training: the only part of showtell that imports Keras."""

import logging
import os

from showtell.errors import import_extra
from showtell.utils.streams import suppress_stderr

# This must be set before TensorFlow is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def require_keras(feature: str) -> None:
    """Load Keras and its backend. Raises MissingExtra, which says what to install, if they are not there."""
    # TensorFlow tells four lines of advice at every start, before it looks at its own log level.
    with suppress_stderr():
        import_extra("keras", feature, "train")
    # It warns of compiling for several widths of batches, which is meant.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
