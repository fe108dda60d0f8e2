"""Health checks and metrics."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from showtell import __version__
from showtell.server.context import Context
from showtell.server.responses import RETRY_LATER, STOPPING, error_response
from showtell.server.schemas import ErrorResponse

health_router = APIRouter(tags=["monitoring"])
metrics_router = APIRouter(tags=["monitoring"])


@health_router.get("/healthz", response_description="The process is alive.")
async def check_health() -> dict[str, str]:
    """Return whether the process is alive."""
    return {"status": "ok", "version": __version__}


@health_router.get(
    "/readyz",
    response_description="The server accepts caption requests.",
    responses={503: {"model": ErrorResponse, "description": "The server is stopping."}},
)
async def check_readiness(context: Context) -> Response:
    """Return whether the server accepts caption requests."""
    if context.state.is_stopping:
        return error_response(503, STOPPING, RETRY_LATER)
    return JSONResponse({"status": "ready"})


@metrics_router.get("/metrics", response_class=PlainTextResponse, response_description="Prometheus metrics.")
async def get_metrics(context: Context) -> Response:
    """Return metrics in the Prometheus text format."""
    return PlainTextResponse(context.metrics.to_text(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
