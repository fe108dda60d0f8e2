"""The command that serves captions over HTTP: serve."""

import ipaddress
import math
from pathlib import Path
from typing import Annotated

import typer

from showtell.cli.options import Models, say
from showtell.errors import ConfigurationError


def serve(
    model: Models = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 for any that is free.")] = 8000,
    token_file: Annotated[
        Path | None, typer.Option(help="File with a token that clients must send, as Authorization: Bearer TOKEN.")
    ] = None,
    max_megabytes: Annotated[float, typer.Option(help="Size of a request.")] = 32,
    max_files: Annotated[int, typer.Option(help="Images of a request.")] = 16,
    max_megapixels: Annotated[float, typer.Option(help="Pixels of an image.")] = 50,
    timeout: Annotated[float, typer.Option(help="Seconds that a request may take.")] = 30,
    queue: Annotated[int, typer.Option(help="Requests in hand at a time; what comes beyond is sent away.")] = 64,
) -> None:
    """Caption images over HTTP, with a page for the browser."""
    from showtell.inference.captioner import Captioner
    from showtell.server import require

    require("showtell serve")
    from showtell.server.limits import MEGABYTE, ServerSettings
    from showtell.server.running import serve as serve_captions

    for option, value in (("--max-megabytes", max_megabytes), ("--max-megapixels", max_megapixels)):
        if not math.isfinite(value):
            raise ConfigurationError(f"{option} must be a number, not {value}")
    settings = ServerSettings(
        max_body=round(max_megabytes * MEGABYTE),
        max_files=max_files,
        max_pixels=round(max_megapixels * MEGABYTE),
        timeout=timeout,
        queue=queue,
        token=_token(token_file),
    )
    if settings.token is None and not _is_loopback(host):
        say(f"note: whoever reaches {host} may use this server; --token-file keeps others out")
    serve_captions(Captioner.load(*model or ()), settings, host, port, say)


def _token(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigurationError(f"--token-file {path}: cannot be read ({why})") from None
    if not token:
        raise ConfigurationError(f"--token-file {path}: the file is empty; write the token into it")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
