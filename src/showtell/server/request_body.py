"""Request bodies with a size limit and a deadline."""

import asyncio
from contextlib import suppress

from fastapi.responses import JSONResponse
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Send

from showtell.server.responses import CLOSE_CONNECTION, NO_IMAGE, error_response
from showtell.server.settings import MEGABYTE, ServerSettings

DRAIN_SECONDS = 2


def too_large_message(settings: ServerSettings) -> str:
    """Return the message of the 413 response to a request body that is too large."""
    return f"the request exceeds {settings.max_body_bytes / MEGABYTE:g} MB; send fewer or smaller images"


def reject_form(headers: Headers) -> JSONResponse | None:
    """Return the response to a form that would take too long to parse, or None.

    Starlette decodes names and values in any charset that Python supports. The time of some charsets, such as punycode,
    is quadratic: a megabyte takes minutes. URL-encoded forms are rejected too, because they cannot contain files and
    are slow to parse.
    """
    content_type, parameters = parse_options_header(headers.get("content-type"))
    if content_type == b"application/x-www-form-urlencoded":
        return error_response(422, NO_IMAGE, CLOSE_CONNECTION)
    if parameters.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8", b"us-ascii"):
        message = "unsupported charset of the form: send field names and file names in UTF-8"
        return error_response(400, message, CLOSE_CONNECTION)
    return None


class LimitedBody:
    """Limit the size of a request body and the time to receive it.

    If the server closed the connection while a client is still sending, the client's system would discard the response.
    After an early response, `send` therefore reads and discards the rest of the body: at most the size limit, for at
    most DRAIN_SECONDS.

    Args:
        receive: the ASGI callable that receives the body.
        send: the ASGI callable that sends the response.
        settings: the limits.
        deadline: time of the event loop's clock, in seconds, by which the body must be complete.
    """

    def __init__(self, receive: Receive, send: Send, settings: ServerSettings, deadline: float):
        self._receive = receive
        self._send = send
        self._settings = settings
        self._deadline = deadline
        self._received_bytes = 0
        self._is_complete = False

    async def receive(self) -> Message:
        """Receive the next part. Raises HTTPException 413 if the body is too large, 408 if it is late."""
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive_part()
        except TimeoutError:
            message_408 = (
                f"timed out: the request was not complete after {self._settings.timeout:g} s; "
                "send fewer or smaller images"
            )
            raise HTTPException(408, message_408, CLOSE_CONNECTION) from None
        if self._received_bytes > self._settings.max_body_bytes:
            raise HTTPException(413, too_large_message(self._settings), CLOSE_CONNECTION)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response. Before the last part, discard the rest of the body."""
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if is_last and not self._is_complete:
            await self._send({**message, "more_body": True})
            await self._drain()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _receive_part(self) -> Message:
        message = await self._receive()
        self._is_complete = not message.get("more_body", False)
        self._received_bytes += len(message.get("body", b""))
        return message

    async def _drain(self) -> None:
        limit = self._received_bytes + self._settings.max_body_bytes
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._is_complete and self._received_bytes < limit:
                    await self._receive_part()
