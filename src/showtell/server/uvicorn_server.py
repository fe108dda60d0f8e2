"""The server process: its socket and its shutdown."""

import logging
import os
import socket
import threading
import time
from types import FrameType

import uvicorn

from showtell.errors import ConfigurationError
from showtell.inference.captioner import Captioner
from showtell.server.admission import ServingState
from showtell.server.app import create_app
from showtell.server.http_protocol import JsonErrorProtocol
from showtell.server.settings import ServerSettings, restrict_hosts

logger = logging.getLogger(__name__)

# Maximum seconds from the request timeout to the exit. Clients have half of this time to receive their response.
GRACE_SECONDS = 2


class GracefulServer(uvicorn.Server):
    """A server that stops in two steps: it finishes the requests in flight and rejects new ones, then it exits.

    It exits at the latest GRACE_SECONDS after the request timeout, and immediately on a second signal.
    """

    def __init__(self, config: uvicorn.Config, state: ServingState, timeout: float, url: str):
        super().__init__(config)
        self._state = state
        self._timeout = timeout
        self._url = url
        self._exit_time = float("inf")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept requests, and log the address."""
        await super().startup(sockets)
        logger.info("listening on %s (press Ctrl-C to stop)", self._url)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the shutdown; exit immediately on the second signal."""
        if self._state.is_stopping:
            os._exit(128 + sig)  # a normal exit would wait for the images in progress
        self._state.is_stopping = True
        self._exit_time = time.monotonic() + self._timeout + GRACE_SECONDS / 4
        exit_timer = threading.Timer(self._timeout + GRACE_SECONDS, os._exit, (0,))
        exit_timer.daemon = True
        exit_timer.start()

    async def on_tick(self, counter: int) -> bool:
        """Return whether to exit. uvicorn calls this ten times per second."""
        is_done = not self._state.requests_in_flight or time.monotonic() > self._exit_time
        if self._state.is_stopping and is_done:
            self.should_exit = True
        return await super().on_tick(counter)


def serve(captioner: Captioner, settings: ServerSettings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT. Logs the address once requests are accepted.

    Args:
        captioner: the captioner.
        settings: limits and access control.
        host: host name or address to listen on.
        port: port to listen on; 0 chooses a free port.

    Raises:
        ConfigurationError: if the address is not available.
        ShowtellError: if the worker processes cannot be started.
    """
    listener = _listen(host, port)
    app = create_app(captioner, restrict_hosts(settings, host, listener.getsockname()[0]))
    config = uvicorn.Config(
        app,
        http=JsonErrorProtocol,
        ws="none",
        lifespan="off",  # the batcher is started below, because uvicorn would log its errors as tracebacks
        loop="asyncio",
        log_level="error",  # uvicorn warns of each invalid request
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS // 2,
    )
    context = app.state.context
    with context.batcher:
        GracefulServer(config, context.state, settings.timeout, _url(listener)).run([listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"cannot listen on {host}, port {port}: {reason}. Choose another address with --host and --port."
        ) from None


def _url(listener: socket.socket) -> str:
    address, port = listener.getsockname()[:2]
    return f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"
