"""Captions of uploaded images."""

import asyncio
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Form, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from showtell.errors import ConfigurationError, ShowtellError
from showtell.inference.caption import Caption, CaptionResult
from showtell.inference.search_options import SearchOptions
from showtell.server.context import Context, ServerContext
from showtell.server.responses import RETRY_LATER, excerpt
from showtell.server.schemas import (
    CaptionForm,
    CaptionResponse,
    ErrorResponse,
    ImageCaptions,
    InvalidRequestResponse,
    ScoredCaption,
)

router = APIRouter(tags=["captions"])

ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorResponse, "description": "The token is missing or wrong."},
    408: {"model": ErrorResponse, "description": "The request was not complete before the timeout."},
    413: {"model": ErrorResponse, "description": "The request is too large."},
    422: {"model": InvalidRequestResponse, "description": "A field is invalid, or none of the images could be read."},
    503: {
        "model": ErrorResponse,
        "description": "The server is stopping, overloaded or timed out. `Retry-After` gives the seconds to wait.",
    },
}


@router.post(
    "/v1/captions",
    response_model=CaptionResponse,
    response_model_exclude_none=True,
    response_description="Captions, or an error for each image that could not be read.",
    responses=ERRORS,
)
async def caption_images(
    form: Annotated[CaptionForm, Form(media_type="multipart/form-data")], request: Request, context: Context
) -> Any:
    """Caption images.

    An image that cannot be read has an `error` instead of captions. The status is 422 if none of the images can be
    read.
    """
    _check_request(form, context)
    options = _search_options(form, context)
    results = await _caption(form, options, context, request.state.deadline)
    images = [
        _image_captions(upload.filename or "", result, form.attention)
        for upload, result in zip(form.files, results, strict=True)
    ]
    failed = sum(image.error is not None for image in images)
    context.metrics.images.labels("failed").inc(failed)
    context.metrics.images.labels("captioned").inc(len(images) - failed)
    if failed == len(images):
        first = images[0]
        message = f"none of the images could be read; {excerpt(first.file) or 'the first image'}: {first.error}"
        return JSONResponse(InvalidRequestResponse(error=message, captions=images).model_dump(exclude_none=True), 422)
    return CaptionResponse(captions=images)


def _check_request(form: CaptionForm, context: ServerContext) -> None:
    """Raise HTTPException if a request asks for attention that the model lacks."""
    if form.attention and not context.captioner.has_attention:
        raise HTTPException(422, "this model has no attention; set attention to false")


def _search_options(form: CaptionForm, context: ServerContext) -> SearchOptions:
    """Return the search options of a request. Raises HTTPException if they are invalid."""
    max_beam_size = context.settings.max_beam_size
    if max(form.beam_size or 0, form.n_best) > max_beam_size:
        raise HTTPException(422, f"n_best and beam_size must be at most {max_beam_size}")
    beam_size = {"beam_size": form.beam_size} if form.beam_size else {}
    try:
        return context.captioner.search_options.override(strategy="beam", n_best=form.n_best, **beam_size)
    except ConfigurationError as error:
        raise HTTPException(422, str(error)) from None


async def _caption(
    form: CaptionForm, options: SearchOptions, context: ServerContext, deadline: float
) -> list[CaptionResult]:
    """Caption the files of a request. Raises HTTPException if the deadline passes or the model fails."""
    futures = [
        asyncio.wrap_future(context.batcher.submit(await upload.read(), options, deadline)) for upload in form.files
    ]
    try:
        async with asyncio.timeout_at(deadline):
            return await asyncio.gather(*futures)
    except TimeoutError:
        message = f"timed out after {context.settings.timeout:g} s: the server is overloaded; retry later"
        raise HTTPException(503, message, RETRY_LATER) from None
    except ShowtellError as error:
        raise HTTPException(500, str(error)) from None


def _image_captions(file: str, result: CaptionResult, attention: bool) -> ImageCaptions:
    if result.error is not None:
        return ImageCaptions(file=file, error=str(result.error).removeprefix("the image: "))
    captions = [_scored_caption(caption, attention) for caption in result.captions]
    return ImageCaptions(file=file, caption=captions[0].caption, confidence=captions[0].confidence, captions=captions)


def _scored_caption(caption: Caption, attention: bool) -> ScoredCaption:
    scored = ScoredCaption(
        caption=caption.text,
        confidence=None if caption.confidence is None else round(caption.confidence, 3),
        log_prob=round(caption.log_prob, 4),
    )
    if attention and caption.attention is not None:
        scored.words = list(caption.tokens)
        scored.attention = np.round(caption.attention.astype(np.float64), 4).tolist()
    return scored
