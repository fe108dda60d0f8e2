"""The process that serves: its socket, and how it stops."""

import os
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from showtell.errors import ConfigurationError
from showtell.inference.captioner import Captioner
from showtell.server.app import create_app
from showtell.server.limits import ServerSettings, Traffic

# Beyond the time that a request may take, for its answer to be fetched.
GRACE = 2


class Server(uvicorn.Server):
    """A server that stops in two steps: it refuses what is new with 503 while it finishes what it has, then it ends.

    A second signal ends it at once.
    """

    def __init__(self, config: uvicorn.Config, traffic: Traffic, timeout: float, started: Callable[[], None]):
        super().__init__(config)
        self._traffic = traffic
        self._started = started
        self._timeout = timeout
        self._stop_by = float("inf")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and tell so."""
        await super().startup(sockets)
        self._started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, or end if that has been asked for before."""
        if self._traffic.stopping:
            os._exit(128 + sig)  # nothing is kept that could be lost, and images at work would be waited for
        self._traffic.stopping = True
        self._stop_by = min(self._stop_by, time.monotonic() + self._timeout + GRACE)

    async def on_tick(self, counter: int) -> bool:
        """Tell whether to end; called ten times a second."""
        if self._traffic.stopping and (not self._traffic.in_hand or time.monotonic() > self._stop_by):
            self.should_exit = True
        return await super().on_tick(counter)


def serve(captioner: Captioner, settings: ServerSettings, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        captioner: what captions.
        settings: what is taken from whom.
        host: name or address to listen at.
        port: port; 0 for any that is free.
        say: told the address in a line, once requests are taken.

    Raises:
        ConfigurationError: if one cannot listen there.
    """
    listener = _listen(host, port)
    app = create_app(captioner, settings)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        loop="asyncio",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    address, found_port = listener.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    line = f"showtell: http://{shown}:{found_port}/ (Ctrl-C stops it)"
    Server(config, app.state.traffic, settings.timeout, lambda: say(line)).run([listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"cannot listen at {host}, port {port} ({reason}); name others with --host and --port"
        ) from None
