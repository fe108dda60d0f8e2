"""Jobs on a Ray cluster (extra [ray]): captions and features of many images. Only this folder imports Ray."""

import os

from showtell.errors import import_extra

__all__ = ["require_ray"]

# Ray sends usage statistics to its developers by default. Workers import this package too.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def require_ray(feature: str) -> None:
    """Load Ray Data without its log output. Raises MissingExtra if the extra [ray] is not installed."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "CRITICAL")
    for package in ("ray.data", "pyarrow", "fsspec"):
        import_extra(package, feature, "ray")
