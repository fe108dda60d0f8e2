"""Requests that no client sends by accident: each gets a response, and each error is JSON with one line."""

import gzip
import io
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from PIL import Image

_buffer = io.BytesIO()
Image.new("L", (8, 8)).save(_buffer, "PNG")
PNG = _buffer.getvalue()
END = b"--b--\r\n"
FORM = "Content-Type: multipart/form-data; boundary=b"
CHUNKED = "Transfer-Encoding: chunked"
POST = "POST /v1/captions HTTP/1.1"
GET = "GET /healthz HTTP/1.1"
ESCAPE = b"\x1b[31m"


@pytest.fixture(scope="module")
def address(serve, looking_bundle):
    """Start a server and return its address. At the end, check that it has logged nothing."""
    address, process = serve("--model", looking_bundle, "--max-megabytes", 1)
    yield address
    process.terminate()
    assert process.wait(20) == 0 and process.stderr.read() == ""


def request(start, *headers, body=b"", host="Host: localhost"):
    """Return the bytes of a request that asks the server to close the connection."""
    lines = [start, *([host] if host else []), "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def form(body, content_type="multipart/form-data; boundary=b", *headers):
    return request(POST, f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers, body=body)


def part(disposition=b'name="files"; filename="a.png"', content=PNG, headers=b""):
    return b"--b\r\nContent-Disposition: form-data; %s\r\n%s\r\n%s\r\n" % (disposition, headers, content)


def field(name, value):
    return part(b'name="%s"' % name, value)


def parts(count, disposition):
    return b"".join(part(disposition % number, b"x") for number in range(count)) + END


def chunks(body):
    return request(POST, FORM, CHUNKED, body=body)


COMPRESSED = gzip.compress(part() + END)
# name: (request, expected status, expected part of the body)
REQUESTS = {
    # The start line
    "lower-case method": (request("get / HTTP/1.1"), 405, "get is not allowed for /"),
    "unknown method": (request("BREW /v1/captions HTTP/1.1"), 405, "/docs"),
    "long method": (request("A" * 5000 + " / HTTP/1.1"), 405, "is not allowed for /"),
    "control character in the method": (request("G\x01T / HTTP/1.1"), 400, "illegal request line"),
    "CONNECT": (request("CONNECT example.com:443 HTTP/1.1"), 404, "example.com:443"),
    "TRACE": (request("TRACE /v1/captions HTTP/1.1"), 405, "TRACE"),
    "OPTIONS *": (request("OPTIONS * HTTP/1.1"), 404, "/docs"),
    "absolute target": (request("GET http://example.com/healthz HTTP/1.1"), 404, "/docs"),
    "target without a slash": (request("GET healthz HTTP/1.1"), 404, "/docs"),
    "space in the target": (request("GET /a b HTTP/1.1"), 400, "illegal request line"),
    "non-ASCII target": (request("GET /\xe9 HTTP/1.1"), 400, "illegal request line"),
    "control characters in the path": (request("GET /%00%0a%1b[31m HTTP/1.1"), 404, r"/\\x00\\x1b[31m"),
    "surrogate in the path": (request("GET /%ed%a0%80 HTTP/1.1"), 404, "/docs"),
    "NUL in a static path": (request("GET /static/%00 HTTP/1.1"), 404, "/docs"),
    "path traversal": (request("GET /static/%2e%2e/app.py HTTP/1.1"), 404, "/docs"),
    "folder": (request("GET /static HTTP/1.1"), 404, "/docs"),
    "trailing slash": (request("POST /v1/captions/ HTTP/1.1"), 404, "/docs"),
    "long path": (request("GET /" + "a" * 15_000 + " HTTP/1.1"), 404, "/docs"),
    "long query": (request("GET /healthz?" + "a&" * 7000 + " HTTP/1.1"), 200, "ok"),
    "no version": (b"GET /\r\n\r\n", 400, "illegal request line"),
    "HTTP/1.0": (b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n", 200, "ok"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\nHost: localhost\r\n\r\nSM\r\n\r\n", 404, "/docs"),
    "TLS": (bytes.fromhex("16030100a5010000a10303") + bytes(150), 400, "illegal request line"),
    "zeros": (bytes(1000), 400, "illegal request line"),
    "line feeds only": (request(GET).replace(b"\r", b""), 200, "ok"),
    # Headers
    "no Host": (request(GET, host=None), 400, "Host"),
    "two Hosts": (request(GET, "Host: localhost"), 400, "multiple Host"),
    "invalid Host": (request(GET, host="Host: a b/c@localhost"), 403, "--allow-host"),
    "empty Host": (request(GET, host="Host:"), 403, "--allow-host"),
    "no colon": (request(GET, "nonsense"), 400, "illegal header line"),
    "space before the colon": (request(GET, "X : y"), 400, "illegal header line"),
    "NUL in a header": (request(GET, "X: a\0b"), 400, "illegal header line"),
    "no header name": (request(GET, ": x"), 400, "illegal header line"),
    "non-ASCII header": (request(GET, "X: \xff\xfe"), 200, "ok"),
    "folded header": (request(GET, "X: y", " z"), 200, "ok"),
    "many headers": (request(GET, *["X: y"] * 100_000), 431, "headers are too large"),
    "long header": (request(GET, "X: " + "y" * 1_000_000), 431, "headers are too large"),
    "unknown expectation": (request(GET, "Expect: coffee"), 200, "ok"),
    "WebSocket": (request(GET, "Connection: Upgrade", "Upgrade: websocket"), 200, "ok"),
    "invalid range": (request("GET /static/page.js HTTP/1.1", "Range: bytes=5-2"), 400, "start must be less than end"),
    "unknown range unit": (request("GET /static/page.js HTTP/1.1", "Range: pages=1"), 400, "bytes"),
    # The length of the body
    "negative length": (request(POST, "Content-Length: -1"), 400, "Content-Length"),
    "signed length": (request(POST, "Content-Length: +5", body=b"hello"), 400, "Content-Length"),
    "superscript length": (request(POST, "Content-Length: \xb2"), 400, "Content-Length"),
    "empty length": (request(POST, "Content-Length:"), 400, "Content-Length"),
    "length of 5,000 digits": (request(POST, "Content-Length: " + "9" * 5000), 400, "Content-Length"),
    "two lengths": (request(POST, "Content-Length: 5", "Content-Length: 6"), 400, "conflicting Content-Length"),
    "compressed transfer": (request(POST, "Transfer-Encoding: gzip, chunked"), 501, "Transfer-Encoding"),
    "invalid chunk": (chunks(b"zz\r\n" + ESCAPE + b"\r\n"), 400, "illegal chunk header"),
    "negative chunk": (chunks(b"-5\r\nhello\r\n0\r\n\r\n"), 400, "illegal chunk header"),
    "huge chunk": (chunks(b"f" * 30 + b"\r\nhello\r\n"), 400, "illegal chunk header"),
    "long chunk extension": (chunks(b"5;" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n"), 400, "error"),
    "chunk without an end": (chunks(b"5\r\nhelloXX0\r\n\r\n"), 400, "malformed chunk footer"),
    "tiny chunks": (chunks(b"1\r\n-\r\n" * 100_000 + b"0\r\n\r\n"), 400, "error"),
    "tiny chunks on another path": (
        request("POST / HTTP/1.1", CHUNKED, body=b"1\r\n-\r\n" * 100_000 + b"0\r\n\r\n"),
        *(400, "chunks of less than 1024 bytes"),
    ),
    "a thousand tiny chunks": (
        chunks(b"".join(b"1\r\n%c\r\n" % byte for byte in part() + END) + b"0\r\n\r\n"),
        200,
        "a dog",
    ),
    "invalid chunk on another path": (request("POST / HTTP/1.1", CHUNKED, body=b"zz\r\n"), 400, "illegal chunk header"),
    "invalid chunk for HEAD": (request("HEAD / HTTP/1.1", CHUNKED, body=b"zz\r\n"), 400, ""),
    "trailers": (chunks(b"0\r\nHost: example.com\r\n\r\n"), 422, "no image"),
    # The form
    "no content type": (request(POST, "Content-Length: 5", body=b"hello"), 422, "no image"),
    "JSON": (form(b"{", "application/json"), 422, "no image"),
    "URL-encoded": (form(b"files=a&n_best=%ff%00", "application/x-www-form-urlencoded"), 422, "no image"),
    "invalid content type": (form(b"x", ";;;===\xff"), 422, "no image"),
    "no boundary": (form(b"x", "multipart/form-data"), 400, "boundary"),
    "long boundary": (form(b"x", "multipart/form-data; boundary=" + "b" * 5000), 400, "invalid form"),
    "one byte": (form(b"-"), 422, "no image"),
    "no body": (form(b""), 422, "no image"),
    "no end": (form(part()), 422, "no image"),
    "text before the form": (form(b"hello\r\n" + part() + END), 400, "invalid form"),
    "text after the form": (form(part() + END + b"x" * 1000), 200, "a dog"),
    "no disposition": (form(b"--b\r\n\r\nx\r\n" + END), 400, "Content-Disposition"),
    "no name": (form(part(b'filename="a.png"') + END), 400, "name"),
    "compressed body": (form(COMPRESSED, "multipart/form-data; boundary=b", "Content-Encoding: gzip"), 400, "form"),
    "nested form": (
        form(part(content=part(), headers=b"Content-Type: multipart/mixed; boundary=c\r\n") + END),
        422,
        "",
    ),
    "many headers in a part": (form(part(headers=b"X: y\r\n" * 5000) + END), 400, "invalid form"),
    "10,000 files": (form(parts(10_000, b'name="files"; filename="%d"')), 413, "more than 16 images"),
    "10,000 fields": (form(parts(10_000, b'name="%d"')), 400, "Too many fields"),
    "10,000 unknown files": (form(parts(10_000, b'name="%d"; filename="x"')), 413, "more than 16 images"),
    # Values
    "NUL in a file name": (form(part(b'name="files"; filename="a\0b"', b"x") + END), 422, r"a\\x00b: not an image"),
    "escape in a file name": (form(part(b'name="files"; filename="%s"' % ESCAPE, b"x") + END), 422, r"\\x1b[31m: not"),
    "file name that is not UTF-8": (form(part(b'name="files"; filename="\xff.png"') + END), 200, "a dog"),
    "path as a file name": (form(part(b'name="files"; filename="../../etc/passwd"') + END), 200, "a dog"),
    "long file name": (form(part(b'name="files"; filename="%s"' % (b"a" * 3000), b"x") + END), 422, "…: not an image"),
    "very long file name": (form(part(b'name="files"; filename="%s"' % (b"a" * 50_000)) + END), 400, "invalid form"),
    "long field name": (form(field(b"a" * 3000, b"x") + part() + END), 422, "…'; the fields are files"),
    "escape in a field name": (form(field(ESCAPE + b"\0", b"x") + part() + END), 422, r"'\\x1b[31m\\x00'"),
    "long number": (form(field(b"n_best", b"7" * 100_000) + part() + END), 422, "n_best: unable to parse"),
    "long text as a number": (form(field(b"n_best", b"z" * 100_000) + part() + END), 422, "n_best: input should be"),
    "escape in a number": (form(field(b"n_best", b"\x07" + "\u202e".encode()) + part() + END), 422, r"'\\x07\\u202e'"),
    "file as a number": (form(part(b'name="n_best"; filename="%s"' % (b"q" * 3000)) + part() + END), 422, "n_best"),
    "text as an image": (form(field(b"files", b"z" * 100) + END), 422, "no image"),
    **{
        f"charset {charset}": (form(part() + END, f"multipart/form-data; charset={charset}; boundary=b"), 400, "UTF-8")
        for charset in ("utf-7", "utf-16", "idna", "zlib_codec", "undefined", "unicode_escape", "../x", "x" * 5000)
    },
    "charset UTF-8": (form(part() + END, "multipart/form-data; charset=UTF-8; boundary=b"), 200, "a dog"),
    "URL-encoded separators": (form(b"&" * 900_000, "application/x-www-form-urlencoded"), 422, "no image"),
    # 900 kB take Python's punycode codec minutes.
    "punycode": (
        form(part(b'name="n_best"', b"x-" + b"a" * 900_000) + END, f"{FORM[14:]}; charset=punycode"),
        400,
        "UTF-8",
    ),
}


def send(address, content):
    """Send bytes; return the response until the server closes the connection."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(content)
        response = b""
        while data := connection.recv(65536):
            response += data
    return response


def trickle(address, start):
    """Send bytes, and then one byte at a time until the server closes the connection; return the response."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=0.2) as connection:
        connection.sendall(start)
        response = b""
        for _ in range(200):
            try:
                while data := connection.recv(65536):
                    response += data
                return response
            except TimeoutError:
                with suppress(ConnectionError):
                    connection.sendall(b"x")
            except ConnectionResetError:
                return response
    raise AssertionError("the server did not close the connection")


def split_response(response):
    head, _, body = response.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.lower(), body


@pytest.mark.parametrize("name", REQUESTS)
def test_odd_requests_get_a_response_and_errors_are_one_line_of_json(address, name):
    content, expected_status, expected_text = REQUESTS[name]
    status, head, body = split_response(send(address, content))
    if body.count(b"HTTP/1.1 "):  # a client that sends two requests gets two responses
        body = body[: body.index(b"HTTP/1.1 ")]
    assert status == expected_status and expected_text.encode() in body, body
    if status >= 400 and not content.startswith(b"HEAD"):
        message = json.loads(body)["error"]
        assert b"content-type: application/json" in head and b"content-security-policy" in head
        assert message.isprintable() and len(message) < 400


def test_pipelined_requests_get_their_responses_in_order(address):
    first = request(GET).replace(b"Connection: close\r\n", b"")
    response = send(address, first * 2 + request("GET /nowhere HTTP/1.1"))
    assert re.findall(rb"HTTP/1.1 (\d+)", response) == [b"200", b"200", b"404"]
    response = send(address, first + b"garbage\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", response) == [b"200", b"400"]
    assert json.loads(response.rpartition(b"\r\n")[2])["error"] == "invalid HTTP request: illegal request line"


def test_clients_that_expect_it_are_asked_to_continue_only_if_the_request_is_accepted(address):
    body = part() + END
    response = send(address, form(body, "multipart/form-data; boundary=b", "Expect: 100-continue"))
    assert re.findall(rb"HTTP/1.1 (\d+)", response) == [b"100", b"200"]
    response = send(address, request(POST, FORM, "Expect: 100-continue", "Content-Length: 2000000"))
    assert re.findall(rb"HTTP/1.1 (\d+)", response) == [b"413"]


def test_connections_that_send_a_byte_now_and_then_are_closed(address):
    long_body = request("POST / HTTP/1.1", "Content-Length: 1000")
    with ThreadPoolExecutor() as pool:
        head = pool.submit(trickle, address, b"GET / HTTP/1.1\r\nX: ")
        body = pool.submit(trickle, address, long_body.replace(b"Connection: close\r\n", b""))
        empty = pool.submit(send, address, b"")
    status, _, content = split_response(head.result())
    assert status == 408 and json.loads(content)["error"].startswith("timed out: the headers were not complete")
    assert split_response(body.result())[0] == 405
    assert empty.result() == b""  # browsers open connections in advance


def test_a_connection_is_kept_open_between_requests(address):
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        for _ in range(3):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            response = b""
            while not response.endswith(b"}"):
                response += connection.recv(65536)
            assert response.startswith(b"HTTP/1.1 200")
