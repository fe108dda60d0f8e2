"""What the server takes, and what it refuses before it costs anything."""

import asyncio
import hmac
from contextlib import suppress
from dataclasses import dataclass

from fastapi.responses import JSONResponse
from PIL import Image
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from showtell.errors import ConfigurationError
from showtell.images import open_image

# Others that Pillow reads would run programs (EPS) or are no photographs.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
MEGABYTE = 1_000_000
RETRY_AFTER = {"Retry-After": "1"}
CLOSE = {"Connection": "close"}
LINGER = 2  # seconds


@dataclass(frozen=True)
class ServerSettings:
    """What a server takes from whom.

    Attributes:
        max_body: bytes of a request.
        max_files: images of a request.
        max_pixels: pixels of an image.
        max_beam_size: captions followed at a time, which is also the most that are given for an image.
        timeout: seconds from the beginning of a request to its captions.
        queue: requests that are in hand at a time, those that are still being sent among them.
        token: what a client must send as `Authorization: Bearer TOKEN`; None for no such need.

    Raises ConfigurationError for values that cannot work.
    """

    max_body: int = 32 * MEGABYTE
    max_files: int = 16
    max_pixels: int = 50 * MEGABYTE
    max_beam_size: int = 10
    timeout: float = 30.0
    queue: int = 64
    token: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_body", "max_files", "max_pixels", "max_beam_size", "timeout", "queue"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"server setting {name} must be more than 0, not {getattr(self, name)}")
        if self.token is not None and (not self.token.isascii() or not self.token or len(self.token.split()) != 1):
            raise ConfigurationError("the token of a server must be one word of ASCII letters, digits and signs")


@dataclass
class Traffic:
    """What goes on at the gate.

    Attributes:
        stopping: set it, and requests for captions are refused.
        in_hand: requests for captions that have entered and not left.
    """

    stopping: bool = False
    in_hand: int = 0


class AdmissionMiddleware:
    """The gate before the application: who may enter, how many at a time, with how much, and for how long.

    A request for captions is refused by its head where that is enough, before its body is read: 401 without the token,
    503 while the server stops or has its hands full, 413 if it says to be too large. A body that turns out to be too
    large ends in 413, one that does not come in time in 408.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, traffic: Traffic):
        self._app = app
        self._settings = settings
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith(("/v1/", "/metrics")):
            await self._app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._settings.timeout
        scope.setdefault("state", {})["deadline"] = deadline
        body = _Body(receive, send, self._settings, deadline)
        if refused := self._refused(Headers(scope=scope), path):
            await refused(scope, body.receive, body.send)
            return
        counted = path.startswith("/v1/")
        self._traffic.in_hand += counted
        try:
            await self._app(scope, body.receive, body.send)
        finally:
            self._traffic.in_hand -= counted

    def _refused(self, headers: Headers, path: str) -> JSONResponse | None:
        settings = self._settings
        if settings.token is not None:
            expected = f"Bearer {settings.token}".encode()
            if not hmac.compare_digest(headers.get("authorization", "").encode(), expected):
                line = "this server wants a token: send the header Authorization: Bearer TOKEN"
                return error_response(401, line, {"WWW-Authenticate": "Bearer", **CLOSE})
        if not path.startswith("/v1/"):
            return None
        if self._traffic.stopping:
            return error_response(
                503, "the server is stopping; try another, or this one again later", RETRY_AFTER | CLOSE
            )
        if self._traffic.in_hand >= settings.queue:
            line = f"{settings.queue} requests are in hand, all that this server takes; try again in a second"
            return error_response(503, line, RETRY_AFTER | CLOSE)
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > settings.max_body:
            return error_response(413, _too_large(settings), CLOSE)
        return None


class _Body:
    """The body of a request, within its limits, and what is done with the rest if it is answered before it is whole.

    To close while a client is still sending would make its system throw the answer away. So after such an answer a
    little more is read and forgotten: as much as a request may have, for as long as LINGER.
    """

    def __init__(self, receive: Receive, send: Send, settings: ServerSettings, deadline: float):
        self._receive = receive
        self._send = send
        self._settings = settings
        self._deadline = deadline
        self._taken = 0
        self._whole = False

    async def receive(self) -> Message:
        """Take the next part. Raises HTTPException if that is too much or too late."""
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._part()
        except TimeoutError:
            seconds = f"{self._settings.timeout:g} s"
            line = f"the request did not come whole within {seconds}; send fewer or smaller images"
            raise HTTPException(408, line, CLOSE) from None
        if self._taken > self._settings.max_body:
            raise HTTPException(413, _too_large(self._settings), CLOSE)
        return message

    async def send(self, message: Message) -> None:
        """Answer, and hear the client out for a while before the answer ends."""
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if last and not self._whole:
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _part(self) -> Message:
        message = await self._receive()
        self._whole = not message.get("more_body", False)
        self._taken += len(message.get("body", b""))
        return message

    async def _linger(self) -> None:
        until = self._taken + self._settings.max_body
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while not self._whole and self._taken < until:
                    await self._part()


def error_response(status: int, line: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an answer that is one line of what is wrong and what to do."""
    return JSONResponse({"error": line}, status, headers)


def reject_reason(content: bytes, settings: ServerSettings) -> str | None:
    """Tell from the head of an image file why it is not taken, if so; whether it can be decoded is left open."""
    if not content:
        return "the file is empty"
    try:
        with open_image(content) as image:
            format_, width, height = image.format, image.width, image.height
    except Image.DecompressionBombError:
        return f"more than {settings.max_pixels:,} pixels; make the image smaller"
    except Exception:  # decoding it will tell more
        return None
    if format_ not in FORMATS:
        return f"{format_} files are not taken; send a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
    if width * height > settings.max_pixels:
        return f"{width} x {height} pixels are more than {settings.max_pixels:,}; make the image smaller"
    return None


def _too_large(settings: ServerSettings) -> str:
    return f"a request may have {settings.max_body / MEGABYTE:g} MB; send fewer or smaller images"
