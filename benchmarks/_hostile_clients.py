"""Clients that attack the server: odd and hostile requests, slow connections, and connections that close early."""

import io
import json
import random
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

MEGABYTE = 1_000_000
TIMEOUT_SECONDS = 60
DRIBBLE_SECONDS = 0.5  # between the bytes of a slow connection
MAX_DRIBBLED_BYTES = 40
BOUNDARY = "showtell"
HEAD = "POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"

Files = list[tuple[str, bytes]]
Check = Callable[[int, Any], bool]  # (status, JSON body) -> whether the response is correct
Response = tuple[int, bytes]  # status and body; status 0 if the connection ended without a response


@dataclass(frozen=True)
class Attack:
    """A hostile request.

    Attributes:
        name: name in the report.
        content: bytes of the request.
        is_correct: check of the response.
        send: sends the request over a connection, and returns whether to wait for the response.
    """

    name: str
    content: bytes
    is_correct: Check = lambda status, body: True
    send: Callable[[socket.socket, bytes], bool] = lambda connection, content: send_at_once(connection, content)


def run_attack(address: str, attack: Attack) -> tuple[int, str]:
    """Send a hostile request; return the status, and what is wrong with the response or an empty string."""
    status, body = _send(address, attack)
    if status == 0 or status == 503:  # the server may close these connections without a response
        return status, ""
    try:
        is_correct = status < 500 and attack.is_correct(status, json.loads(body))
    except (KeyError, TypeError, ValueError):
        is_correct = False
    return status, "" if is_correct else f"{attack.name}: {status} {body[:300]!r}"


@cache
def create_attacks(name: str, photo: bytes) -> tuple[Attack, ...]:
    """Create one attack of each kind. This takes seconds.

    Args:
        name: file name of a valid image.
        photo: content of the image.
    """
    valid = encode_form([(name, photo)])
    large = encode_png(7000, 7000, "RGBA")
    return (
        Attack("not an image", encode_form([("page.html", b"<html>" * 1000)]), has_error(422, "not an image")),
        Attack("truncated", encode_form([(name, photo[: len(photo) // 2])]), has_error(422, "damaged")),
        Attack(
            "too many pixels", encode_form([("bomb.png", encode_png(20_000, 20_000, "1"))]), has_error(422, "pixel")
        ),
        Attack("12,000 scans", encode_form([("scans.jpg", repeat_scans(photo, 12_000))]), has_error(422, "costly")),
        Attack(
            "16 images of 49 megapixels", encode_form([(f"{n}.png", large) for n in range(16)]), is_captioned_or_slow
        ),
        Attack("too many files", encode_form([(f"{n}.gif", b"GIF") for n in range(17)]), has_error(413, "split")),
        Attack("too large", encode_form([("large.jpg", bytes(33 * MEGABYTE))]), has_error(413, "MB")),
        Attack("invalid field", encode_form([(name, photo)], {"n_best": "x"}), has_error(422, "n_best")),
        Attack("unknown field", encode_form([(name, photo)], {"colour": "x"}), has_error(422, "colour")),
        Attack("no form", f"{HEAD}Content-Length: 4\r\n\r\nGIF8".encode(), has_error(422, "files")),
        Attack("no HTTP", random.Random(0).randbytes(500) + b"\r\n\r\n", has_error(400, "HTTP")),
        Attack(
            "unknown path",
            b"GET /admin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            has_error(404, "/docs"),
        ),
        Attack("slow head", b"GET /" + b"a" * 100, send=dribble),
        Attack("slow body", valid, send=dribble_body),
        Attack("closed during the body", valid, send=close_during_body),
        Attack("closed before the response", valid, send=close_after_request),
    )


def has_error(status: int, part: str) -> Check:
    """Return a check for a status and a part of the error message."""
    return lambda actual_status, body: actual_status == status and part in body["error"]


def is_captioned_or_slow(status: int, body: Any) -> bool:
    """Check that each image has a caption, or took too long."""
    return all(
        "caption" in image or "longer" in image["error"] or "time" in image["error"] for image in body["captions"]
    )


def encode_form(files: Files, fields: dict[str, str] | None = None) -> bytes:
    """Return a caption request with files and other fields."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in (fields or {}).items()
    ]
    for name, content in files:
        disposition = f'Content-Disposition: form-data; name="files"; filename="{name}"'
        parts.append(f"--{BOUNDARY}\r\n{disposition}\r\n\r\n".encode() + content + b"\r\n")
    body = b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])
    head = f"{HEAD}Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def encode_png(width: int, height: int, mode: str) -> bytes:
    """Return a small file of a large black image."""
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def repeat_scans(photo: bytes, count: int) -> bytes:
    """Return a progressive JPEG that ends in many scans without data."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(photo)) as image:
        image.save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    (scan,) = re.findall(rb"\xff\xda.{12}", content[content.rindex(b"\xff\xda") :], re.DOTALL)
    return content[:-2] + scan * count + content[-2:]


def send_at_once(connection: socket.socket, content: bytes) -> bool:
    """Send the request."""
    connection.sendall(content)
    return True


def dribble(connection: socket.socket, content: bytes) -> bool:
    """Send one byte at a time."""
    for position in range(min(len(content), MAX_DRIBBLED_BYTES)):
        connection.sendall(content[position : position + 1])
        time.sleep(DRIBBLE_SECONDS)
    return True


def dribble_body(connection: socket.socket, content: bytes) -> bool:
    """Send the head at once, and one byte of the body at a time."""
    head_bytes = content.index(b"\r\n\r\n") + 4
    connection.sendall(content[:head_bytes])
    return dribble(connection, content[head_bytes:])


def close_during_body(connection: socket.socket, content: bytes) -> bool:
    """Send half of the request."""
    connection.sendall(content[: len(content) // 2])
    return False


def close_after_request(connection: socket.socket, content: bytes) -> bool:
    """Send the request, and do not wait for the response."""
    connection.sendall(content)
    return False


def _send(address: str, attack: Attack) -> Response:
    url = urlsplit(address)
    try:
        with socket.create_connection((url.hostname or "", url.port or 80), TIMEOUT_SECONDS) as connection:
            try:
                waits = attack.send(connection, attack.content)
            except (BrokenPipeError, ConnectionResetError):  # the server has responded early
                waits = True
            return _parse(b"".join(_receive(connection))) if waits else (0, b"")
    except OSError:
        return 0, b""


def _receive(connection: socket.socket) -> Iterator[bytes]:
    with suppress(
        ConnectionResetError
    ):  # a server that has not read the whole request resets the connection after its response
        while part := connection.recv(65536):
            yield part


def _parse(response: bytes) -> Response:
    head, _, body = response.partition(b"\r\n\r\n")
    match = re.match(rb"HTTP/1.1 (\d+)", head)
    return (int(match.group(1)), body) if match else (0, b"")
