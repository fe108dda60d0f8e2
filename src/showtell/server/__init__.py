"""The server (extra [serve]): captions over HTTP, and a page for them. All that imports FastAPI is here."""

from showtell.errors import import_extra

PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def require(feature: str) -> None:
    """Load what the server is built on. Raises MissingExtra, which says what to install, if it is not there."""
    for package in PACKAGES:
        import_extra(package, feature, "serve")
