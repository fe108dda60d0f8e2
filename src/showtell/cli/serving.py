"""The command that serves captions over HTTP: serve."""

import ipaddress
import logging
import math
from pathlib import Path
from typing import Annotated

import typer

from showtell.cli.options import Models
from showtell.errors import ConfigurationError

logger = logging.getLogger(__name__)


def serve(
    model: Models = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all interfaces.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 chooses a free port.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token that clients must send in the header Authorization: Bearer TOKEN."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Additional host name that clients may use. Repeat the option for several."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Website whose pages may use this server. Repeat the option for several."),
    ] = None,
    max_megabytes: Annotated[float, typer.Option(help="Maximum size of a request in MB.")] = 32,
    max_files: Annotated[int, typer.Option(min=1, help="Maximum number of images per request.")] = 16,
    max_megapixels: Annotated[float, typer.Option(help="Maximum size of an image in megapixels.")] = 50,
    timeout: Annotated[float, typer.Option(help="Maximum duration of a request in seconds.")] = 30,
    queue: Annotated[
        int, typer.Option(min=1, help="Maximum number of requests in flight. Further requests get status 503.")
    ] = 64,
) -> None:
    """Serve captions over HTTP.

    The server has a web page at / and API documentation at /docs.
    """
    from showtell.inference.captioner import Captioner
    from showtell.server import ServerSettings, require_fastapi
    from showtell.server.settings import MEGABYTE, MEGAPIXEL

    require_fastapi("showtell serve")
    from showtell.server import serve as serve_captions

    settings = ServerSettings(
        max_body_bytes=_multiply("--max-megabytes", max_megabytes, MEGABYTE),
        max_files=max_files,
        max_pixels=_multiply("--max-megapixels", max_megapixels, MEGAPIXEL),
        timeout=timeout,
        max_requests_in_flight=queue,
        token=_read_token(token_file),
        allow_hosts=tuple(name.lower().strip("[]") for name in allow_host) if allow_host else None,
        allow_origins=tuple(url.lower() for url in allow_origin or ()),
    )
    if settings.token is None and not _is_loopback(host):
        logger.warning("anyone who can reach %s can use this server; restrict access with --token-file", host)
    serve_captions(Captioner.load(*model or ()), settings, host, port)


def _multiply(option: str, value: float, unit: int) -> int:
    """Return `value * unit`, rounded. Raises ConfigurationError if the result is not a positive, finite number."""
    if not math.isfinite(value) or round(value * unit) < 1:
        raise ConfigurationError(f"{option} must be a positive number, not {value:g}")
    return round(value * unit)


def _read_token(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigurationError(f"--token-file {path}: cannot be read: {reason}") from None
    if not token:
        raise ConfigurationError(f"--token-file {path}: the file is empty. Write the token into it.")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
