"""Limits and access control of the server."""

from dataclasses import dataclass

from showtell.errors import ConfigurationError

MEGABYTE = 1_000_000
MEGAPIXEL = 1_000_000


@dataclass(frozen=True)
class ServerSettings:
    """Limits and access control of the server.

    Attributes:
        max_body_bytes: maximum size of a request body, in bytes.
        max_files: maximum number of images per request.
        max_pixels: maximum number of pixels per image.
        max_beam_size: maximum beam width, and maximum number of captions per image.
        timeout: maximum duration of a request, in seconds.
        max_requests_in_flight: maximum number of caption requests in flight, including those still being received.
        token: bearer token that clients must send. None admits every client.

    Raises:
        ConfigurationError: if a limit is not positive, or the token cannot be sent in a header.
    """

    max_body_bytes: int = 32 * MEGABYTE
    max_files: int = 16
    max_pixels: int = 50 * MEGAPIXEL
    max_beam_size: int = 10
    timeout: float = 30.0
    max_requests_in_flight: int = 64
    token: str | None = None

    def __post_init__(self) -> None:
        limits = ("max_body_bytes", "max_files", "max_pixels", "max_beam_size", "timeout", "max_requests_in_flight")
        for name in limits:
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"server setting {name} must be greater than 0, not {getattr(self, name)}")
        if self.token is not None and (not self.token.isascii() or len(self.token.split()) != 1):
            raise ConfigurationError("the token must be one word of ASCII characters, without spaces")
