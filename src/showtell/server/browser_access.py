"""Protection against web pages of other sites, which can send requests from the browser of any visitor."""

import re

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from showtell.server.responses import error_response, excerpt
from showtell.server.settings import LOOPBACK_HOSTS, ServerSettings

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d+)?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class BrowserAccessMiddleware:
    """Reject requests that a page of another site sends.

    Two checks, both with status 403:

    - The host name must be allowed. A page can point its own domain to this server's address (DNS rebinding). The
      browser then treats the server as part of the page's site, but sends the domain in the header Host. Ports are not
      compared, because forwarding changes them.
    - `Origin` and `Sec-Fetch-Site`, if sent, must be those of this server's own pages or of an allowed origin. Links
      from other sites may be followed. Programs other than browsers send neither header.

    Sources: https://web.dev/articles/fetch-metadata, https://pkg.go.dev/net/http#CrossOriginProtection
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings):
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or reject it."""
        rejection = self._reject(scope["method"], Headers(scope=scope)) if scope["type"] == "http" else None
        await (rejection or self._app)(scope, receive, send)

    def _reject(self, method: str, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "").lower()
        if not self._is_allowed_host(host):
            hint = "Use localhost, or start the server with --allow-host NAME."
            return error_response(403, f"host name not accepted: '{excerpt(host)}'. {hint}")
        origin = headers.get("origin")
        if origin in self._settings.allow_origins:
            return None
        hint = "Start the server with --allow-origin URL to accept pages of a website."
        if origin is not None and not _is_own_origin(origin.lower(), host):
            return error_response(403, f"origin not accepted: '{excerpt(origin)}'. {hint}")
        if _is_cross_site(method, headers):
            return error_response(403, f"request from a page of another site not accepted. {hint}")
        return None

    def _is_allowed_host(self, host: str) -> bool:
        if self._settings.allow_hosts is None:
            return True
        match = _HOST.fullmatch(host)
        return match is not None and (match[1] or match[2]) in (*LOOPBACK_HOSTS, *self._settings.allow_hosts)


def _is_own_origin(origin: str, host: str) -> bool:
    """Return whether an origin has the host name and port of the header Host."""
    scheme, _, authority = origin.partition("://")
    default_port = _DEFAULT_PORTS.get(scheme, "")
    return authority != "" and authority.removesuffix(default_port) == host.removesuffix(default_port)


def _is_cross_site(method: str, headers: Headers) -> bool:
    """Return whether a page of another site sent a request. Links that a user follows do not count."""
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return False
    is_navigation = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return method != "GET" or not is_navigation
