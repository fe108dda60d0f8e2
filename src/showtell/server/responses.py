"""Error responses: JSON with one line that says what is wrong and what to do."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from showtell.server.schemas import CaptionForm

RETRY_LATER = {"Retry-After": "1"}
CLOSE_CONNECTION = {"Connection": "close"}
STOPPING = "the server is stopping; retry later or use another server"


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error response with a one-line message."""
    return JSONResponse({"error": message}, status, headers)


async def _handle_http_exception(request: Request, error: HTTPException) -> JSONResponse:
    messages = {
        404: f"not found: {request.url.path}. See /docs for the available paths.",
        405: f"{request.method} is not allowed for {request.url.path}. See /docs for the available methods.",
    }
    return error_response(error.status_code, messages.get(error.status_code, error.detail), error.headers)


async def _handle_validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    field = first["loc"][1] if len(first["loc"]) > 1 else "body"
    if field == "files":
        message = "no image: send at least one file in the multipart field 'files'"
    elif first["type"] == "extra_forbidden":
        message = f"unknown field {field!r}; the fields are {', '.join(CaptionForm.model_fields)}"
    else:
        message = f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}, not {first['input']!r}"
    return error_response(422, message)


async def _handle_unexpected_error(request: Request, error: Exception) -> JSONResponse:
    return error_response(500, "internal server error; see the server's log for details")


EXCEPTION_HANDLERS: dict[int | type[Exception], Callable[..., Any]] = {
    HTTPException: _handle_http_exception,
    RequestValidationError: _handle_validation_error,
    Exception: _handle_unexpected_error,
}
