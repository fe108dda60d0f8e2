"""Jobs on many machines (extra [scale]): captions and features by Ray Data. All that imports Ray is here."""

import os

from showtell.errors import import_extra

PACKAGES = ("ray.data", "pyarrow", "fsspec")


def require(feature: str) -> None:
    """Load Ray Data, quietly. Raises MissingExtra, which says what to install, if it is not there."""
    # Nothing is told to anybody else, and what Ray writes to the screen by itself is no message for users.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "CRITICAL")
    for package in PACKAGES:
        import_extra(package, feature, "scale")
