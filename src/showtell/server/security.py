"""Bearer token and security headers."""

import hmac

from fastapi import Request
from fastapi.security import HTTPBearer
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Pages load and send nothing elsewhere, run no inline scripts, and cannot be framed by other sites.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

# Describes the token in the OpenAPI schema, and parses the Authorization header.
bearer = HTTPBearer(
    scheme_name="token", description="The token in the file passed to `--token-file`.", auto_error=False
)


async def has_valid_token(request: Request, token: str) -> bool:
    """Return whether a request carries the expected bearer token."""
    credentials = await bearer(request)
    return credentials is not None and hmac.compare_digest(credentials.credentials.encode(), token.encode())


class SecurityHeadersMiddleware:
    """Add the security headers to every response."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)
