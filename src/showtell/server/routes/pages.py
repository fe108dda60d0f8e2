"""The web page at `/`, and Swagger UI at `/docs`."""

from importlib import resources
from string import Template

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from showtell.server.context import Context

_TEMPLATES = resources.files("showtell.server") / "templates"
_PAGE = Template((_TEMPLATES / "page.html").read_text("utf-8"))
_DOCS = (_TEMPLATES / "docs.html").read_text("utf-8")

# The first match wins.
STATIC_FILES = [
    Mount("/static/swagger-ui", StaticFiles(packages=[("fastapi_swagger", "resources")])),
    Mount("/static", StaticFiles(packages=[("showtell.server", "static")])),
]

router = APIRouter(include_in_schema=False)


@router.get("/", response_class=HTMLResponse)
async def get_page(context: Context) -> str:
    """Return the page that captions images in the browser."""
    return _PAGE.substitute(
        max_body_bytes=context.settings.max_body_bytes, has_attention=str(context.captioner.has_attention).lower()
    )


@router.get("/docs", response_class=HTMLResponse)
async def get_docs() -> str:
    """Return the page that shows the API in Swagger UI."""
    return _DOCS
