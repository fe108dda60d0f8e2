"""HTTP errors that occur before a request reaches the application, as JSON."""

import asyncio
import sys
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from showtell.server.responses import CLOSE_CONNECTION, error_response, excerpt
from showtell.server.security import SECURITY_HEADERS

DRAIN_SECONDS = 2
# h11 parses chunks in the event loop, so many small chunks would delay all other requests.
MAX_SMALL_CHUNKS = 2000
MIN_CHUNK_BYTES = 1024  # on average, for a connection with more than MAX_SMALL_CHUNKS


class _ConnectionWithLargeChunks(h11.Connection):
    """A connection that rejects bodies with many tiny chunks."""

    _chunks = 0
    _chunk_bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event. Raises RemoteProtocolError if the chunks are too small."""
        event = super().next_event()
        if isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._chunk_bytes += len(event.data)
            if self._chunks > MAX_SMALL_CHUNKS and self._chunk_bytes < self._chunks * MIN_CHUNK_BYTES:
                raise h11.RemoteProtocolError(f"chunks of less than {MIN_CHUNK_BYTES} bytes")
        return event


class JsonErrorProtocol(H11Protocol):
    """The HTTP protocol of uvicorn with JSON errors and a deadline for the next request of a connection.

    Responses: 400, 431 or 501 if h11 cannot parse the request, 408 if its headers are not complete in time. Unlike in
    uvicorn, `timeout_keep_alive` also ends connections that send single bytes slowly.

    If the server closed the connection while a client is still sending, the client's system would discard the response.
    After an error, the protocol therefore reads and discards data for up to DRAIN_SECONDS.
    """

    _is_rejected = False
    _head_deadline: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.conn = _ConnectionWithLargeChunks(h11.SERVER)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start a connection and the timer for its first request."""
        super().connection_made(transport)
        self._update_head_deadline()

    def data_received(self, data: bytes) -> None:
        """Parse a part of a request."""
        if self._is_rejected:
            return
        super().data_received(data)
        self._update_head_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        self._cancel_head_deadline()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Reject a request that h11 cannot parse. uvicorn calls this while it handles the error of h11."""
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if status == 431:
            self._reject(status, "the headers are too large; send fewer or shorter headers")
        else:  # h11 appends the invalid line
            self._reject(status, f"invalid HTTP request: {excerpt(str(error or msg).partition(': bytearray(')[0])}")

    def _update_head_deadline(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel_head_deadline()
        elif self._head_deadline is None and not self._is_rejected:
            self._head_deadline = self.loop.call_later(self.timeout_keep_alive, self._end_incomplete_head)

    def _cancel_head_deadline(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _end_incomplete_head(self) -> None:
        received, _ = self.conn.trailing_data
        if not received:  # browsers open connections in advance, and would show an error
            self.transport.close()
        else:
            seconds = self.timeout_keep_alive
            self._reject(408, f"timed out: the headers were not complete after {seconds:g} s; retry")

    def _reject(self, status: int, message: str) -> None:
        self._is_rejected = True
        if self.cycle is not None:
            self.cycle.disconnected = True  # the application must not respond to this request as well
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # a response has been sent or begun
            self.transport.close()
            return
        is_head = self.conn.our_state is h11.SEND_RESPONSE and self.scope["method"] == "HEAD"
        response = error_response(status, message, SECURITY_HEADERS | CLOSE_CONNECTION)
        headers = [*self.server_state.default_headers, *response.raw_headers]
        for event in (
            h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode()),
            h11.Data(data=b"" if is_head else bytes(response.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event))
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(DRAIN_SECONDS, self.transport.close)
