"""The HTTP API of a real `showtell serve` process."""

import io
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import numpy as np
import pytest
from helpers import EXAMPLES
from PIL import Image

from showtell.inference.bundle import Bundle
from showtell.inference.captioner import Captioner
from showtell.server import create_app

PHOTO = EXAMPLES / "000000126107.jpg"


@pytest.fixture(scope="module")
def address(serve, looking_bundle):
    """Start a server with low limits and the tiny model; return its address."""
    return serve("--model", looking_bundle, "--max-files", 3, "--max-megabytes", 1, "--max-megapixels", 1)[0]


def png(grey, size=(8, 8)):
    buffer = io.BytesIO()
    Image.new("L", size, grey).save(buffer, "PNG")
    return buffer.getvalue()


def quadrant(number):
    """Return a dark PNG with one bright quadrant."""
    pixels = np.full((8, 8), 20, np.uint8)
    row, column = divmod(number, 2)
    pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 240
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def bomb(width, height):
    """Return a valid PNG of a few bytes and many pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    compressor = zlib.compressobj(9)
    rows = b"".join(compressor.compress(bytes(width + 1)) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def post_images(address, *contents, authorization=None, **fields):
    files = [("files", (f"{number}.png", content)) for number, content in enumerate(contents)]
    headers = {"Authorization": authorization} if authorization else {}
    return httpx.post(f"{address}/v1/captions", files=files, data=fields, headers=headers, timeout=60)


def assert_error(response, status, *parts):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    message = response.json()["error"]
    assert "\n" not in message and all(part in message for part in parts), message


def test_captions_with_words_and_attention(address):
    response = post_images(address, quadrant(1), n_best=2, attention=True)
    (image,) = response.json()["captions"]
    assert response.status_code == 200 and image["file"] == "0.png" and image["caption"] == "a dog"
    assert "confidence" not in image  # this model is not calibrated
    best, second = image["captions"]
    assert (best["caption"], second["caption"]) == ("a dog", "dog")
    assert best["log_prob"] == pytest.approx(-0.2) and best["words"] == ["a", "dog"]
    # "a" attends to bright cells: exp(0.02 (20 - 240)) = 0.0123 = 1 / 81.5 in the others. "dog" attends to dark cells.
    expected = [[0.0118, 0.9645, 0.0118, 0.0118], [0.3320, 0.0041, 0.3320, 0.3320]]
    np.testing.assert_allclose(best["attention"], expected, atol=2e-4)
    without_attention = post_images(address, quadrant(1)).json()["captions"][0]
    assert without_attention["captions"] == [{"caption": "a dog", "log_prob": best["log_prob"]}]


def test_responses_equal_the_captioner_and_carry_confidence(serve):
    address, _ = serve()
    photos = sorted(EXAMPLES.glob("*.jpg"))
    images = post_images(address, *(photo.read_bytes() for photo in photos)).json()["captions"]
    expected = [result.captions[0] for result in Captioner.load().caption(photos)]
    assert [image["caption"] for image in images] == [caption.text for caption in expected]
    assert [image["confidence"] for image in images] == [round(caption.confidence, 3) for caption in expected]


def test_a_broken_file_only_affects_its_own_entry(address):
    response = post_images(address, png(9), b"no image", png(90))
    first, broken, third = response.json()["captions"]
    assert response.status_code == 200 and first["caption"] == third["caption"] == "a dog"
    assert broken["file"] == "1.png" and broken.keys() == {"file", "error"} and "image" in broken["error"]


def test_a_request_of_only_broken_files_is_an_error(address):
    response = post_images(address, b"no image", b"")
    assert_error(response, 422, "none of the images", "0.png", "image")
    assert [image["file"] for image in response.json()["captions"]] == ["0.png", "1.png"]
    assert response.json()["captions"][1]["error"] == "the file is empty"


def test_invalid_requests_get_a_one_line_error(address):
    assert_error(post_images(address, *[png(0)] * 4), 413, "more than 3 images", "split the request")
    assert_error(post_images(address, png(0), n_best=11), 422, "at most 10")
    assert_error(post_images(address, png(0), n_best=3, beam_size=2), 422, "n_best must be at most beam_size")
    assert_error(post_images(address, png(0), n_best="many"), 422, "n_best", "integer", "'many'")
    assert_error(post_images(address, png(0), nbest=2), 422, "unknown field 'nbest'", "n_best")
    assert_error(post_images(address), 422, "files")
    url = f"{address}/v1/captions"
    assert_error(httpx.post(url, content=png(0)), 422, "multipart field 'files'")
    assert_error(httpx.post(url, data={"files": "photo.png"}), 422, "multipart field 'files'")
    malformed = {"Content-Type": "multipart/form-data; boundary=x"}
    assert_error(httpx.post(url, content=b"--y", headers=malformed), 400, "invalid form", "/docs")
    assert_error(httpx.get(f"{address}/v2/captions"), 404, "/docs")
    assert_error(httpx.get(f"{address}/static/missing.js"), 404, "/docs")
    assert_error(httpx.get(url), 405, "GET", "/docs")


def test_attention_is_rejected_if_the_model_has_none(serve, blind_bundle):
    address, _ = serve("--model", blind_bundle)
    assert_error(post_images(address, png(0), attention=True), 422, "no attention")
    assert post_images(address, png(0)).json()["captions"][0]["caption"] == "a dog"


def test_a_decompression_bomb_is_rejected_by_its_header(address):
    content = bomb(30_000, 20_000)
    assert len(content) < 1_000_000
    assert_error(post_images(address, content), 422, "1,000,000 pixels")
    assert_error(post_images(address, bomb(1001, 1000)), 422, "1,001,000 pixels exceed the limit of 1,000,000")


MULTIPART = "Content-Type: multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'


def request_head(*lines):
    return "\r\n".join(["POST /v1/captions HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def send_raw(address, head, body=b"", timeout=20):
    """Send bytes over a plain socket; return the response and the number of bytes of the body that were sent."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        connection.sendall(head)
        sent = 0
        try:
            while sent < len(body):
                sent += connection.send(body[sent : sent + 65536])
        except (BrokenPipeError, ConnectionResetError):
            pass
        response = b""
        try:
            while part := connection.recv(65536):
                response += part
        except ConnectionResetError:
            pass
    return response, sent


def test_a_large_body_is_rejected_without_being_read(address):
    response, _ = send_raw(address, request_head(MULTIPART, "Content-Length: 1000001"))
    assert b"413" in response.splitlines()[0] and b"1 MB" in response and b"connection: close" in response.lower()
    # A body of unknown size is cut off at the limit.
    size = 200_000_000
    chunk = b"%x\r\n%s\r\n" % (size, PART + bytes(size - len(PART)))
    response, sent = send_raw(address, request_head(MULTIPART, "Transfer-Encoding: chunked"), chunk)
    assert sent < size / 2  # only what the buffers of two sockets hold
    assert b"413" in response.splitlines()[0] and response.endswith(b'send fewer or smaller images"}')


def test_an_incomplete_request_times_out(serve, looking_bundle):
    address, _ = serve("--model", looking_bundle, "--timeout", 0.5)
    response, _ = send_raw(address, request_head(MULTIPART, "Content-Length: 1000"), PART)
    assert b"408" in response.splitlines()[0] and b"not complete after 0.5 s" in response


@pytest.fixture(scope="module")
def protected_address(serve, looking_bundle, tmp_path_factory):
    """Start a server with the token "opensesame"; return its address."""
    token_file = tmp_path_factory.mktemp("token") / "token"
    token_file.write_text("opensesame\n")
    return serve("--model", looking_bundle, "--token-file", token_file)[0]


@pytest.mark.parametrize(
    "authorization", [None, "Bearer", "Bearer opensesam", "Bearer opensesame2", "Basic opensesame", "opensesame"]
)
def test_requests_without_the_token_are_rejected(protected_address, authorization):
    response = post_images(protected_address, png(0), authorization=authorization)
    assert_error(response, 401, "Authorization: Bearer")
    assert response.headers["www-authenticate"] == "Bearer"


def test_requests_without_the_token_are_rejected_before_the_body_arrives(protected_address):
    response, _ = send_raw(protected_address, request_head(MULTIPART, "Content-Length: 1000"))
    assert b"401" in response.splitlines()[0] and b"connection: close" in response.lower()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_token_is_accepted_with_any_case_of_the_scheme(protected_address, scheme):
    assert post_images(protected_address, png(0), authorization=f"{scheme} opensesame").status_code == 200


def test_metrics_need_the_token_and_health_checks_and_pages_do_not(protected_address):
    assert_error(httpx.get(f"{protected_address}/metrics"), 401)
    headers = {"Authorization": "Bearer opensesame"}
    assert httpx.get(f"{protected_address}/metrics", headers=headers).status_code == 200
    for path in ("/", "/docs", "/openapi.json", "/healthz", "/readyz"):
        assert httpx.get(protected_address + path).status_code == 200


def test_openapi_describes_the_token_only_if_the_server_has_one(address, protected_address):
    schema = httpx.get(f"{protected_address}/openapi.json").json()
    assert schema["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    protected = {path for path, methods in schema["paths"].items() if "security" in next(iter(methods.values()))}
    assert protected == {"/v1/captions", "/metrics"}
    assert "securitySchemes" not in httpx.get(f"{address}/openapi.json").json()["components"]


def start_upload(address):
    """Send the first half of a caption request; return a function that sends the rest and returns the response."""
    host, port = address.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    body = PART + png(0) + b"\r\n--b--\r\n"
    connection.sendall(request_head(MULTIPART, f"Content-Length: {len(body)}") + body[:40])

    def finish():
        connection.sendall(body[40:])
        response = b""
        while b"}]}" not in response and (part := connection.recv(65536)):
            response += part
        connection.close()
        return response

    return finish


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def requests_in_flight(address):
    metrics = httpx.get(f"{address}/metrics").text
    return float(re.search(r"^showtell_requests_in_flight (\S+)", metrics, re.M).group(1))


def test_an_overloaded_server_rejects_requests_until_others_finish(serve, looking_bundle):
    address, _ = serve("--model", looking_bundle, "--queue", 2)
    uploads = [start_upload(address), start_upload(address)]
    wait_for(lambda: requests_in_flight(address) == 2)
    response = post_images(address, png(0))
    assert_error(response, 503, "overloaded", "retry later")
    assert response.headers["retry-after"] == "1"
    assert httpx.get(f"{address}/healthz").status_code == 200
    assert all(b"a dog" in finish() for finish in uploads)
    wait_for(lambda: requests_in_flight(address) == 0)
    assert post_images(address, png(0)).status_code == 200


def test_a_stopping_server_finishes_requests_in_flight_and_rejects_new_ones(serve, looking_bundle):
    address, process = serve("--model", looking_bundle)
    finish = start_upload(address)
    wait_for(lambda: requests_in_flight(address) == 1)
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: httpx.get(f"{address}/readyz").status_code == 503)
    response = post_images(address, png(0))
    assert_error(response, 503, "stopping")
    assert response.headers["retry-after"] == "1" and process.poll() is None
    assert b"a dog" in finish()
    assert process.wait(20) == 0 and process.stderr.read() == ""


def test_a_second_signal_exits_immediately(serve, looking_bundle):
    address, process = serve("--model", looking_bundle)
    finish = start_upload(address)
    wait_for(lambda: requests_in_flight(address) == 1)
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: httpx.get(f"{address}/readyz").status_code == 503)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM and process.stderr.read() == ""
    del finish  # keeps the connection open until here


def test_the_beam_width_of_a_bundle_may_exceed_the_limit_for_clients(serve, looking_bundle, tmp_path):
    bundle = Bundle.load(looking_bundle)
    replace(bundle, search_options=replace(bundle.search_options, beam_size=12)).save(tmp_path / "wide")
    address, _ = serve("--model", tmp_path / "wide")
    assert post_images(address, png(0)).status_code == 200
    assert_error(post_images(address, png(0), beam_size=12), 422, "at most 10")


def test_32_concurrent_clients_get_their_own_results(address):
    # The attention depends on the image, and the number of captions on the request.
    def run_client(number):
        for _ in range(4):
            response = post_images(address, quadrant(number % 4), b"broken", n_best=1 + number % 2, attention=True)
            good, broken = response.json()["captions"]
            assert len(good["captions"]) == 1 + number % 2 and "error" in broken
            assert int(np.argmax(good["captions"][0]["attention"][0])) == number % 4
        return number

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(run_client, range(32))) == list(range(32))
    metrics = httpx.get(f"{address}/metrics").text
    batches = float(re.search(r"^showtell_batch_images_count (\S+)", metrics, re.M).group(1))
    images = float(re.search(r"^showtell_batch_images_sum (\S+)", metrics, re.M).group(1))
    assert images >= 128 and batches < images  # some batches have several images
    assert 'showtell_images_total{outcome="failed"}' in metrics
    assert 'showtell_requests_total{path="/v1/captions",status="200"}' in metrics


def test_openapi_describes_every_path_and_field(address):
    schema = httpx.get(f"{address}/openapi.json").json()
    assert set(schema["paths"]) == {"/v1/captions", "/healthz", "/readyz", "/metrics"}
    assert set(schema["paths"]["/v1/captions"]["post"]["responses"]) == {
        *("200", "400", "401", "403", "408", "413", "422", "500", "503")
    }
    components = schema["components"]["schemas"]
    assert set(components["CaptionForm"]["properties"]) == {"files", "n_best", "beam_size", "attention"}
    fields = {name for component in components.values() for name in component["properties"]}
    assert fields >= {"captions", "file", "caption", "confidence", "log_prob", "words", "attention", "error"}
    assert all(
        "description" in field
        for name in ("CaptionForm", "ImageCaptions")
        for field in components[name]["properties"].values()
    )


@pytest.mark.parametrize("path", ["/", "/docs", "/static/page.js", "/static/swagger-ui/swagger-ui.css", "/nowhere"])
def test_pages_may_not_load_anything_from_other_servers(address, path):
    policy = httpx.get(address + path).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy


def test_the_application_runs_in_any_asgi_server(looking_bundle):
    from fastapi.testclient import TestClient

    with TestClient(create_app(Captioner.load(looking_bundle))) as client:
        response = client.post("/v1/captions", files=[("files", ("a.png", png(0)))])
    assert response.json()["captions"][0]["caption"] == "a dog"


def test_invalid_options_are_reported_before_the_server_starts(showtell, looking_bundle, tmp_path):
    def fail(*options):
        return showtell("serve", "--model", looking_bundle, "--port", 0, *options, status=2).stderr

    (tmp_path / "token").write_text("\n")
    assert "token: the file is empty" in fail("--token-file", tmp_path / "token")
    (tmp_path / "token").write_text("two words\n")
    assert "must be one word" in fail("--token-file", tmp_path / "token")
    assert "cannot be read: No such file" in fail("--token-file", tmp_path / "none")
    assert "--queue" in fail("--queue", 0)
    assert "--max-megabytes must be a positive number, not 0" in fail("--max-megabytes", 0)
    assert "--max-megapixels must be a positive number, not nan" in fail("--max-megapixels", "nan")
    assert "timeout must be greater than 0" in fail("--timeout", -1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        stderr = fail("--port", port)
    assert f"cannot listen on 127.0.0.1, port {port}" in stderr and "--port" in stderr


def test_listening_on_all_interfaces_without_a_token_gives_a_warning(looking_bundle):
    command = [sys.executable, "-m", "showtell", "serve", "--model", str(looking_bundle), "--port", "0"]
    with subprocess.Popen([*command, "--host", "0.0.0.0"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == (
            "warning: anyone who can reach 0.0.0.0 can use this server; restrict access with --token-file\n"
        )
        assert "http://0.0.0.0:" in process.stderr.readline()
        process.terminate()
        assert process.wait(20) == 0


def test_a_missing_extra_is_reported_with_the_install_command():
    program = (
        "import sys\nsys.modules['fastapi'] = None\n"
        "from showtell.cli import main\nsys.argv = ['showtell', 'serve']\nmain()"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1 and "pip install 'showtell[serve]'" in process.stderr
