"""Prometheus metrics."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from showtell.server.admission import ServingState
from showtell.server.batching import BATCH_SIZE

DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # seconds


class Metrics:
    """The metrics of one server."""

    def __init__(self, state: ServingState):
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "showtell_requests", "Responses by path and status.", ["path", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "showtell_request_seconds",
            "Duration of requests in seconds.",
            ["path"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self.images = Counter("showtell_images", "Images by outcome.", ["outcome"], registry=registry)
        self.batch_images = Histogram(
            "showtell_batch_images", "Images per batch.", buckets=range(1, BATCH_SIZE + 1), registry=registry
        )
        in_flight = Gauge("showtell_requests_in_flight", "Caption requests in flight.", registry=registry)
        in_flight.set_function(lambda: state.requests_in_flight)

    def to_text(self) -> bytes:
        """Return the metrics in the Prometheus text format."""
        return generate_latest(self._registry)


class MetricsMiddleware:
    """Count and time the responses. Paths other than `paths` are recorded as "other"."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]):
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request and record it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 500

        async def record_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        path = scope["path"] if scope["path"] in self._paths else "other"
        try:
            await self._app(scope, receive, record_status)
        finally:
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.request_seconds.labels(path).observe(time.perf_counter() - start)
