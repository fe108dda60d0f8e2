"""Error responses: JSON with one line that says what is wrong and what to do."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from showtell.server.schemas import CaptionForm
from showtell.utils.text import printable

RETRY_LATER = {"Retry-After": "1"}
CLOSE_CONNECTION = {"Connection": "close"}
STOPPING = "the server is stopping; retry later or use another server"
NO_IMAGE = "no image: send at least one file in the multipart field 'files'"
# Maximum number of characters of a request that an error message repeats.
MAX_EXCERPT = 100


def excerpt(text: str) -> str:
    """Return a part of a request for an error message: at most MAX_EXCERPT characters, control characters escaped."""
    return printable(text if len(text) <= MAX_EXCERPT else f"{text[:MAX_EXCERPT]}…")


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error response with a one-line message."""
    return JSONResponse({"error": message}, status, headers)


class JsonErrorsMiddleware:
    """Send the plain-text errors of Starlette as JSON, such as those of CORS and of ranges of static files."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        error_start: Message | None = None

        async def send_as_json(message: Message) -> None:
            nonlocal error_start
            if message["type"] == "http.response.start" and _is_text_error(message):
                error_start = message
            elif error_start is None:
                await send(message)
            else:  # these responses have a body of one part
                await _convert_error(error_start, message["body"].decode())(scope, receive, send)

        await self._app(scope, receive, send_as_json)


def _is_text_error(start: Message) -> bool:
    return start["status"] >= 400 and Headers(raw=start["headers"]).get("content-type", "").startswith("text/plain")


def _convert_error(start: Message, text: str) -> JSONResponse:
    replaced = ("content-type", "content-length")
    headers = {name: value for name, value in Headers(raw=start["headers"]).items() if name not in replaced}
    return error_response(start["status"], f"invalid request: {excerpt(text)}", headers)


async def _handle_http_exception(request: Request, error: HTTPException) -> JSONResponse:
    path = excerpt(request.url.path)
    messages = {
        404: f"not found: {path}. See /docs for the available paths.",
        405: f"{excerpt(request.method)} is not allowed for {path}. See /docs for the available methods.",
    }
    if error.status_code == 400:
        return _reject_form(error.detail, request.app.state.context.settings.max_files)
    return error_response(error.status_code, messages.get(error.status_code, error.detail), error.headers)


def _reject_form(reason: str, max_files: int) -> JSONResponse:
    """Return the response to a form that Starlette cannot parse."""
    if reason.startswith("Too many files"):
        return error_response(413, f"more than {max_files} images in one request; split the request")
    return error_response(400, f"invalid form: {reason.rstrip('.')}. See /docs for the fields.")


async def _handle_validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    field = first["loc"][1] if len(first["loc"]) > 1 else "body"
    if field == "files":
        message = NO_IMAGE
    elif first["type"] == "extra_forbidden":
        message = f"unknown field '{excerpt(field)}'; the fields are {', '.join(CaptionForm.model_fields)}"
    else:
        message = f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}, not '{excerpt(str(first['input']))}'"
    return error_response(422, message)


async def _handle_unexpected_error(request: Request, error: Exception) -> JSONResponse:
    return error_response(500, "internal server error; see the server's log for details")


EXCEPTION_HANDLERS: dict[int | type[Exception], Callable[..., Any]] = {
    HTTPException: _handle_http_exception,
    RequestValidationError: _handle_validation_error,
    Exception: _handle_unexpected_error,
}
