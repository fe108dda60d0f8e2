"""What the server counts for Prometheus, and the headers of all its answers."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from showtell.server.batching import BATCH_SIZE
from showtell.server.limits import Traffic

# A page loads nothing from elsewhere, sends nothing elsewhere, and is shown inside of no other.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The figures of one server."""

    def __init__(self, traffic: Traffic):
        self._registry = here = CollectorRegistry()
        ProcessCollector(registry=here)
        self.requests = Counter("showtell_requests", "Answers, by path and status.", ["path", "status"], registry=here)
        self.seconds = Histogram(
            "showtell_request_seconds", "Time to an answer.", ["path"], buckets=SECONDS, registry=here
        )
        self.images = Counter("showtell_images", "Images, by what became of them.", ["outcome"], registry=here)
        self.batches = Histogram(
            "showtell_batch_images", "Images captioned together.", buckets=range(1, BATCH_SIZE + 1), registry=here
        )
        in_hand = Gauge("showtell_requests_in_hand", "Requests for captions that are being served.", registry=here)
        in_hand.set_function(lambda: traffic.in_hand)

    def text(self) -> bytes:
        """Return them in the text format of Prometheus."""
        return generate_latest(self._registry)


class MetricsMiddleware:
    """The outermost layer of the application: counts and times its answers, and gives all the same headers."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]):
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - began)
