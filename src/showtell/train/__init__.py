"""Training: the only part of showtell that imports Keras."""

import os

from showtell.errors import import_extra

# TensorFlow tells at every start what it could do if it were built otherwise. This must be set before it is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def require_keras(feature: str) -> None:
    """Raise MissingExtra, which says what to install for `feature`, unless Keras is there."""
    import_extra("keras", feature, "train")
