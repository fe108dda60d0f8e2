"""The HTTP server (extra [serve]): API, page and metrics. The only part of showtell that imports FastAPI."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from showtell.errors import import_extra
from showtell.server.settings import ServerSettings

if TYPE_CHECKING:
    from showtell.server.app import create_app as create_app
    from showtell.server.uvicorn_server import serve as serve

__all__ = ["ServerSettings", "create_app", "require_fastapi", "serve"]

PACKAGES = ("fastapi", "fastapi_swagger", "prometheus_client", "python_multipart", "uvicorn")
# Loaded on first use, because they import FastAPI.
_LAZY = {"create_app": "showtell.server.app", "serve": "showtell.server.uvicorn_server"}


def require_fastapi(feature: str) -> None:
    """Import FastAPI and the other packages of the extra [serve].

    Args:
        feature: what needs them, for the error message.

    Raises:
        MissingExtra: if one of them is not installed.
    """
    for package in PACKAGES:
        import_extra(package, feature, "serve")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
