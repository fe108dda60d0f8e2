"""Limits and access control of the server."""

import ipaddress
import re
from dataclasses import asdict, dataclass, replace

from showtell.errors import ConfigurationError

MEGABYTE = 1_000_000
MEGAPIXEL = 1_000_000
# Names of this machine that the domain name system cannot give to other machines.
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class ServerSettings:
    """Limits and access control of the server.

    Attributes:
        max_body_bytes: maximum size of a request body, in bytes.
        max_files: maximum number of images per request.
        max_pixels: maximum number of pixels per image.
        decode_seconds: maximum processor time to decode an image, in seconds. Not enforced on Windows.
        decode_bytes: maximum memory to decode an image, in bytes. Only Linux enforces it.
        max_beam_size: maximum beam width, and maximum number of captions per image.
        timeout: maximum duration of a request, in seconds.
        max_requests_in_flight: maximum number of caption requests in flight, including those still being received.
        token: bearer token that clients must send. None admits every client.
        allow_hosts: host names and addresses, without port, that the header Host may have besides LOOPBACK_HOSTS. None
            admits every name. `serve` restricts the names if the address is a loopback address and there is no token.
        allow_origins: websites whose pages may use the server, such as "https://example.com".

    Raises:
        ConfigurationError: if a limit is not positive, the token cannot be sent in a header, or a host name or origin
            is not valid.
    """

    max_body_bytes: int = 32 * MEGABYTE
    max_files: int = 16
    max_pixels: int = 50 * MEGAPIXEL
    decode_seconds: float = 5.0
    decode_bytes: int = 500 * MEGABYTE
    max_beam_size: int = 10
    timeout: float = 30.0
    max_requests_in_flight: int = 64
    token: str | None = None
    allow_hosts: tuple[str, ...] | None = None
    allow_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, int | float) and not value > 0:
                raise ConfigurationError(f"server setting {name} must be greater than 0, not {value}")
        if self.token is not None and (not self.token.isascii() or len(self.token.split()) != 1):
            raise ConfigurationError("the token must be one word of ASCII characters, without spaces")
        for host in self.allow_hosts or ():
            if not re.fullmatch(r"[a-z0-9._-]+", host) and not _is_ipv6(host):
                raise ConfigurationError(f"invalid host name: {host!r}; write it like example.com or ::1")
        for origin in self.allow_origins:
            if not re.fullmatch(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d+)?", origin):
                raise ConfigurationError(f"invalid origin: {origin!r}; write it like https://example.com")


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def restrict_hosts(settings: ServerSettings, host: str, address: str) -> ServerSettings:
    """Allow only local host names if the server has no token and listens on a loopback address.

    Args:
        settings: the settings that the user chose.
        host: host name or address that the user chose.
        address: numeric address that the server listens on.

    Returns:
        The same settings if the server has a token, or if its address is not a loopback address.
    """
    if settings.token is not None or not ipaddress.ip_address(address).is_loopback:
        return settings
    return replace(settings, allow_hosts=(*(settings.allow_hosts or ()), host.lower()))
