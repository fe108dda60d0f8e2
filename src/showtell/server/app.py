"""The application: what is asked and answered over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib import resources
from string import Template
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, File, Form, Request, Response, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from showtell import __version__
from showtell.errors import ConfigurationError, ShowtellError
from showtell.inference.captioner import Caption, Captioner, CaptionResult
from showtell.inference.search import SearchOptions
from showtell.server.batching import Batcher
from showtell.server.limits import (
    RETRY_AFTER,
    AdmissionMiddleware,
    ServerSettings,
    Traffic,
    error_response,
    reject_reason,
)
from showtell.server.observing import Metrics, MetricsMiddleware
from showtell.server.reference import reference_page

FIELDS = ("files", "n_best", "beam_size", "attention")


class FoundCaption(BaseModel):
    """A caption of an image."""

    caption: str
    confidence: float | None = Field(default=None, description="0 to 1: how likely a person would accept it, if known.")
    log_prob: float = Field(description="Natural log-probability under the model.")
    words: list[str] | None = Field(default=None, description="The words of the caption, if attention was asked for.")
    attention: list[list[float]] | None = Field(
        default=None,
        description="For each word the weights of the cells of the image, a square grid in rows from the top.",
    )


class ImageAnswer(BaseModel):
    """What came of an image: its captions, or an error."""

    file: str = Field(description="The name that it was sent with.")
    caption: str | None = Field(default=None, description="The best caption.")
    confidence: float | None = Field(default=None, description="Its confidence.")
    captions: list[FoundCaption] | None = Field(default=None, description="The n best captions, the best first.")
    error: str | None = Field(default=None, description="Why there is no caption.")


class Answer(BaseModel):
    """Captions of all images of a request, in their order."""

    captions: list[ImageAnswer]


class Refusal(BaseModel):
    """Why a request was refused, and what to do, in one line."""

    error: str
    captions: list[ImageAnswer] | None = Field(
        default=None, description="The errors of the images, where none was read."
    )


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": meaning}
    for status, meaning in {
        401: "The token is missing or wrong.",
        408: "The request did not come in time.",
        413: "The request is too large.",
        422: "A field is wrong, or none of the images could be read.",
        503: "The server is stopping, has its hands full or was too slow; Retry-After says when to come back.",
    }.items()
}
STOPPING: dict[int | str, dict[str, Any]] = {503: {"model": Refusal, "description": "The server is stopping."}}


def create_app(captioner: Captioner, settings: ServerSettings | None = None) -> FastAPI:
    """Return the application that captions with a captioner; `app.state.traffic` tells and steers what it lets in.

    Example:
        >>> from showtell import Captioner
        >>> app = create_app(Captioner.load())  # doctest: +SKIP
    """
    settings = settings or ServerSettings()
    traffic = Traffic()
    metrics = Metrics(traffic)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        app.state.batcher = Batcher(captioner, partial(reject_reason, settings=settings), metrics.batches.observe)
        yield
        await run_in_threadpool(app.state.batcher.close)

    app = FastAPI(
        title="showtell",
        description="Captions for images, offline.",
        version=__version__,
        lifespan=running,
        docs_url=None,  # FastAPI's own page is loaded from other servers
        redoc_url=None,
    )
    app.state.traffic = traffic
    has_attention = captioner.has_attention  # which also loads the models

    @app.post("/v1/captions", responses=REFUSALS, response_model_exclude_none=True, response_description="Captions.")
    async def captions(
        request: Request,
        files: Annotated[list[UploadFile], File(description="The images; give the field once for each.")],
        n_best: Annotated[int, Form(ge=1, description="Captions for each image.")] = 1,
        beam_size: Annotated[
            int | None, Form(ge=1, description="Captions followed at a time; by default as the model says, or n_best.")
        ] = None,
        attention: Annotated[bool, Form(description="Tell where the model looked for each word.")] = False,
    ) -> Answer:
        """Caption images.

        An image that cannot be read has an `error` instead of captions, and the others have theirs; if none could be
        read, that is a 422.
        """
        if unknown := sorted(set(await request.form()) - set(FIELDS)):
            raise HTTPException(422, f"there is no field {unknown[0]!r}; the fields are {', '.join(FIELDS)}")
        if len(files) > settings.max_files:
            raise HTTPException(413, f"{len(files)} files are more than {settings.max_files}; send them in parts")
        if attention and not has_attention:
            raise HTTPException(422, "this model has no attention; ask without it")
        options = _options(captioner.search_options, n_best, beam_size, settings)
        futures = [asyncio.wrap_future(app.state.batcher.submit(await upload.read(), options)) for upload in files]
        try:
            async with asyncio.timeout_at(request.state.deadline):
                results = await asyncio.gather(*futures)
        except TimeoutError:
            line = f"no captions within {settings.timeout:g} s, for many others want some; try again in a second"
            raise HTTPException(503, line, RETRY_AFTER) from None
        except ShowtellError as error:
            raise HTTPException(500, str(error)) from None
        answers = [
            _answer(upload.filename or "", result, attention) for upload, result in zip(files, results, strict=True)
        ]
        failed = [answer for answer in answers if answer.error is not None]
        metrics.images.labels("failed").inc(len(failed))
        metrics.images.labels("captioned").inc(len(answers) - len(failed))
        if len(failed) == len(answers):
            raise NoneReadable(answers)
        return Answer(captions=answers)

    @app.get("/healthz", response_description="It is.")
    async def healthz() -> dict[str, str]:
        """Whether the process is alive."""
        return {"status": "ok", "version": __version__}

    @app.get("/readyz", response_description="They are.", responses=STOPPING)
    async def readyz() -> Response:
        """Whether requests for captions are taken."""
        if traffic.stopping:
            return error_response(503, "the server is stopping; try another, or this one again later", RETRY_AFTER)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", response_class=PlainTextResponse, response_description="Figures.")
    async def figures() -> Response:
        """Figures for Prometheus."""
        return PlainTextResponse(metrics.text(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    _add_pages(app, settings, has_attention)
    _add_refusals(app)
    paths = frozenset(getattr(route, "path", "") for route in app.routes)
    app.add_middleware(AdmissionMiddleware, settings=settings, traffic=traffic)
    app.add_middleware(MetricsMiddleware, metrics=metrics, paths=paths)
    return app


class NoneReadable(Exception):
    """None of the images of a request could be read."""

    def __init__(self, answers: list[ImageAnswer]):
        super().__init__()
        self.answers = answers


def _options(own: SearchOptions, n_best: int, beam_size: int | None, settings: ServerSettings) -> SearchOptions:
    if max(beam_size or 0, n_best) > settings.max_beam_size:
        raise HTTPException(422, f"n_best and beam_size may be {settings.max_beam_size} at most; ask for fewer")
    try:
        return replace(own, strategy="beam", n_best=n_best, beam_size=beam_size or max(own.beam_size, n_best))
    except ConfigurationError as error:
        raise HTTPException(422, str(error)) from None


def _answer(file: str, result: CaptionResult, attention: bool) -> ImageAnswer:
    file = file.encode("utf-8", "replace").decode()  # whatever charset a client names
    if result.error is not None:
        return ImageAnswer(file=file, error=str(result.error).removeprefix("the image: "))
    found = [_found(caption, attention) for caption in result.captions]
    return ImageAnswer(file=file, caption=found[0].caption, confidence=found[0].confidence, captions=found)


def _found(caption: Caption, attention: bool) -> FoundCaption:
    found = FoundCaption(
        caption=caption.text,
        confidence=None if caption.confidence is None else round(caption.confidence, 3),
        log_prob=round(caption.log_prob, 4),
    )
    if attention and caption.attention is not None:
        found.words = list(caption.tokens)
        found.attention = np.round(caption.attention.astype(np.float64), 4).tolist()
    return found


def _add_pages(app: FastAPI, settings: ServerSettings, has_attention: bool) -> None:
    folder = resources.files("showtell.server")
    page = Template(folder.joinpath("page.html").read_text("utf-8")).substitute(
        max_body=settings.max_body, attention=str(has_attention).lower()
    )

    def add(path: str, content: str, media_type: str) -> None:
        async def give() -> Response:
            return Response(content, media_type=media_type)

        app.add_api_route(path, give, include_in_schema=False)

    add("/", page, "text/html")
    for name, media_type in (("page.css", "text/css"), ("page.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        add(f"/{name}", folder.joinpath(name).read_text("utf-8"), media_type)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(reference_page(app.openapi()))


def _add_refusals(app: FastAPI) -> None:
    """Make every refusal JSON with one line that says what to do."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        lines = {
            404: f"there is nothing at {request.url.path}; what there is, is listed at /docs",
            405: f"{request.method} is not for {request.url.path}; what there is, is listed at /docs",
        }
        headers = dict(error.headers or {})
        return error_response(error.status_code, lines.get(error.status_code, error.detail), headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = first["loc"][1] if len(first["loc"]) > 1 else "body"
        if name == "files":
            return error_response(422, "send at least one image as a file in the multipart field 'files'")
        return error_response(422, f"{name}: {first['msg'][:1].lower()}{first['msg'][1:]}, not {first['input']!r}")

    @app.exception_handler(NoneReadable)
    async def unreadable(request: Request, error: NoneReadable) -> JSONResponse:
        first = error.answers[0]
        line = f"none of the images could be read; {first.file or 'the first'}: {first.error}"
        answers = [answer.model_dump(exclude_none=True) for answer in error.answers]
        return JSONResponse({"error": line, "captions": answers}, 422)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return error_response(500, "the server has failed; what happened is in its log")
