"""The ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Security
from fastapi.concurrency import contextmanager_in_threadpool
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

from showtell import __version__
from showtell.inference.captioner import Captioner
from showtell.server.admission import AdmissionMiddleware, ServingState
from showtell.server.batching import Batcher
from showtell.server.browser_access import BrowserAccessMiddleware
from showtell.server.context import ServerContext
from showtell.server.decode_pool import DecodePool
from showtell.server.metrics import Metrics, MetricsMiddleware
from showtell.server.responses import EXCEPTION_HANDLERS, JsonErrorsMiddleware
from showtell.server.routes import captions, monitoring, pages
from showtell.server.schemas import ErrorResponse
from showtell.server.security import SecurityHeadersMiddleware, bearer
from showtell.server.settings import ServerSettings

_PROTECTED_ROUTERS = (captions.router, monitoring.metrics_router)
_PUBLIC_ROUTERS = (monitoring.health_router, pages.router)
# Errors that every path can have.
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorResponse, "description": "The request is not valid HTTP, or not a valid form."},
    403: {"model": ErrorResponse, "description": "The host name or the website is not accepted."},
    500: {"model": ErrorResponse, "description": "An error in the server or in the model."},
}
_PATHS = frozenset(
    route.path
    for router in (*_PROTECTED_ROUTERS, *_PUBLIC_ROUTERS)
    for route in router.routes
    if isinstance(route, APIRoute)
)


def create_app(captioner: Captioner, settings: ServerSettings | None = None) -> FastAPI:
    """Return the ASGI application that captions images with a captioner.

    Examples:
        >>> from showtell import Captioner
        >>> from showtell.server import create_app
        >>> app = create_app(Captioner.load())
        >>> app.title
        'showtell'
    """
    captioner.open_models()
    settings = settings or ServerSettings()
    state = ServingState()
    metrics = Metrics(state)
    decoders = DecodePool(captioner.preprocesses, settings)
    batcher = Batcher(captioner, decoders, metrics.batch_images.observe)
    app = FastAPI(
        title="showtell",
        description="Image captions, offline. [Caption images in the browser](/)",
        version=__version__,
        lifespan=_lifespan,
        exception_handlers=EXCEPTION_HANDLERS,
        responses=ERRORS,
        form_limits={"max_files": settings.max_files},
        redirect_slashes=False,
        docs_url=None,  # FastAPI's own pages load scripts from other servers
        redoc_url=None,
    )
    app.state.context = ServerContext(captioner, settings, state, metrics, batcher)
    token_required = [Security(bearer)] if settings.token is not None else []
    for router in _PROTECTED_ROUTERS:
        app.include_router(router, dependencies=token_required)
    for router in _PUBLIC_ROUTERS:
        app.include_router(router)
    app.router.routes.extend(pages.STATIC_FILES)
    # The middleware that is added last runs first.
    app.add_middleware(AdmissionMiddleware, settings=settings, state=state)
    if settings.allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allow_origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization",),
            expose_headers=("Retry-After",),
            allow_private_network=True,
        )
    app.add_middleware(JsonErrorsMiddleware)
    app.add_middleware(BrowserAccessMiddleware, settings=settings)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(MetricsMiddleware, metrics=metrics, paths=_PATHS)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with contextmanager_in_threadpool(app.state.context.batcher):
        yield
