"""Admission control: requests that are rejected before their body is read."""

import asyncio
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from showtell.server.request_body import LimitedBody, reject_form, too_large_message
from showtell.server.responses import CLOSE_CONNECTION, RETRY_LATER, STOPPING, error_response
from showtell.server.security import has_valid_token
from showtell.server.settings import ServerSettings

API_PREFIX = "/v1/"
# Paths that need the token.
PROTECTED_PREFIXES = (API_PREFIX, "/metrics")


@dataclass
class ServingState:
    """State that admission control, metrics and shutdown share.

    Attributes:
        is_stopping: whether the server is stopping and rejects new caption requests.
        requests_in_flight: number of caption requests that were admitted and not yet answered.
    """

    is_stopping: bool = False
    requests_in_flight: int = 0


class AdmissionMiddleware:
    """Reject requests before their body is read, and limit the size and duration of the others.

    Responses: 401 without the token, 503 while the server is stopping or overloaded, 413 if the declared size is too
    large, 400 or 422 if the form has another encoding. A body that turns out to be too large gets 413, an incomplete
    one 408 after the timeout.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, state: ServingState):
        self._app = app
        self._settings = settings
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit a request, or reject it."""
        if scope["type"] != "http" or not scope["path"].startswith(PROTECTED_PREFIXES):
            await self._app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._settings.timeout
        scope.setdefault("state", {})["deadline"] = deadline
        body = LimitedBody(receive, send, self._settings, deadline)
        if rejection := await self._reject(Request(scope)):
            await rejection(scope, body.receive, body.send)
            return
        is_api_request = scope["path"].startswith(API_PREFIX)
        self._state.requests_in_flight += is_api_request
        try:
            await self._app(scope, body.receive, body.send)
        finally:
            self._state.requests_in_flight -= is_api_request

    async def _reject(self, request: Request) -> JSONResponse | None:
        settings = self._settings
        if settings.token is not None and not await has_valid_token(request, settings.token):
            message = "missing or wrong token: send the header Authorization: Bearer TOKEN"
            return error_response(401, message, {"WWW-Authenticate": "Bearer", **CLOSE_CONNECTION})
        if not request.url.path.startswith(API_PREFIX):
            return None
        if self._state.is_stopping:
            return error_response(503, STOPPING, RETRY_LATER | CLOSE_CONNECTION)
        if self._state.requests_in_flight >= settings.max_requests_in_flight:
            message = f"the server is overloaded: {settings.max_requests_in_flight} requests are in flight; retry later"
            return error_response(503, message, RETRY_LATER | CLOSE_CONNECTION)
        content_length = request.headers.get("content-length", "0")
        if content_length.isdecimal() and int(content_length) > settings.max_body_bytes:
            return error_response(413, too_large_message(settings), CLOSE_CONNECTION)
        return reject_form(request.headers)
