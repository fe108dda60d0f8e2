"""Training: the only package of showtell that imports Keras."""

import logging
import os

from showtell.errors import import_extra
from showtell.utils.streams import suppress_stderr

__all__ = ["require_keras"]


def require_keras(feature: str) -> None:
    """Import Keras and its backend, without their messages.

    Args:
        feature: what needs Keras, for the error message.

    Raises:
        MissingExtra: if Keras is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow reads it at import
    with suppress_stderr():  # TensorFlow prints advice before it reads its log level
        import_extra("keras", feature, "train")
    # TensorFlow warns that it compiles a function for several batch widths, which is intended.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
