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

from showtell.errors import ConfigurationError
from showtell.inference.bundle import Bundle
from showtell.inference.captioner import Captioner
from showtell.server.batching import BATCH_SIZE, Batcher
from showtell.server.limits import ServerSettings, reject_reason

PHOTO = EXAMPLES / "000000126107.jpg"


def png(grey, size=(8, 8)):
    buffer = io.BytesIO()
    Image.new("L", size, grey).save(buffer, "PNG")
    return buffer.getvalue()


def bomb(width, height):
    """A PNG of few bytes that says to be an image of many pixels, and is."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def looking(serve, looking_bundle):
    """The address of a server with small limits and the tiny model."""
    return serve("--model", looking_bundle, "--max-files", 3, "--max-megabytes", 1, "--max-megapixels", 1)[0]


def ask(address, *contents, token=None, **fields):
    files = [("files", (f"{number}.png", content)) for number, content in enumerate(contents)]
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.post(f"{address}/v1/captions", files=files, data=fields, headers=headers, timeout=60)


def refused(response, status, *says):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    line = response.json()["error"]
    assert "\n" not in line and all(part in line for part in says), line
    return response


def quarter(number):
    """An image that is dark but for one of its quarters."""
    pixels = np.full((8, 8), 20, np.uint8)
    row, column = divmod(number, 2)
    pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 240
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_captions_come_with_words_and_attention(looking):
    answer = ask(looking, quarter(1), n_best=2, attention=True)
    (entry,) = answer.json()["captions"]
    assert answer.status_code == 200 and entry["file"] == "0.png" and entry["caption"] == "a dog"
    assert "confidence" not in entry  # this model is not calibrated
    best, second = entry["captions"]
    assert (best["caption"], second["caption"]) == ("a dog", "dog")
    assert best["log_prob"] == pytest.approx(-0.2) and best["words"] == ["a", "dog"]
    # "a" looks where it is bright: exp(0.02 (20 - 240)) = 0.0123 = 1 / 81.5 of it elsewhere; "dog" the other way round.
    expected = [[0.0118, 0.9645, 0.0118, 0.0118], [0.3320, 0.0041, 0.3320, 0.3320]]
    np.testing.assert_allclose(best["attention"], expected, atol=2e-4)
    plain = ask(looking, quarter(1)).json()["captions"][0]
    assert plain["captions"] == [{"caption": "a dog", "log_prob": best["log_prob"]}]


def test_answers_are_those_of_the_captioner_and_carry_confidence(serve):
    address, _ = serve()
    photos = sorted(EXAMPLES.glob("*.jpg"))
    answer = ask(address, *(photo.read_bytes() for photo in photos)).json()["captions"]
    direct = [result.captions[0] for result in Captioner.load().caption(photos)]
    assert [entry["caption"] for entry in answer] == [caption.text for caption in direct]
    assert [entry["confidence"] for entry in answer] == [round(caption.confidence, 3) for caption in direct]


def test_a_broken_file_is_an_error_of_its_own_entry(looking):
    answer = ask(looking, png(9), b"no image", png(90))
    first, broken, third = answer.json()["captions"]
    assert answer.status_code == 200 and first["caption"] == third["caption"] == "a dog"
    assert broken == {"file": "1.png", "error": "not an image in a format that can be read here"}


def test_if_all_files_are_broken_that_is_an_error_of_the_request(looking):
    answer = refused(ask(looking, b"no image", b""), 422, "none of the images", "0.png", "not an image")
    assert [entry["error"] for entry in answer.json()["captions"]] == [
        "not an image in a format that can be read here",
        "the file is empty",
    ]


def test_limits_are_told(looking):
    refused(ask(looking, *[png(0)] * 4), 413, "4 files are more than 3", "send them in parts")
    refused(ask(looking, png(0), n_best=11), 422, "10 at most")
    refused(ask(looking, png(0), n_best=3, beam_size=2), 422, "n_best must be at most beam_size")
    refused(ask(looking, png(0), n_best="many"), 422, "n_best", "integer", "'many'")
    refused(ask(looking, png(0), nbest=2), 422, "no field 'nbest'", "n_best")
    refused(ask(looking), 422, "files")
    refused(httpx.post(f"{looking}/v1/captions", content=png(0)), 422, "multipart field 'files'")
    refused(httpx.post(f"{looking}/v1/captions", data={"files": "photo.png"}), 422, "multipart field 'files'")
    malformed = {"Content-Type": "multipart/form-data; boundary=x"}
    refused(httpx.post(f"{looking}/v1/captions", content=b"--y", headers=malformed), 400)
    refused(httpx.get(f"{looking}/v2/captions"), 404, "/docs")
    refused(httpx.get(f"{looking}/v1/captions"), 405, "GET", "/docs")


def test_attention_is_refused_where_the_model_has_none(serve, blind_bundle):
    address, _ = serve("--model", blind_bundle)
    refused(ask(address, png(0), attention=True), 422, "no attention")
    assert ask(address, png(0)).json()["captions"][0]["caption"] == "a dog"


def test_a_decompression_bomb_is_refused_by_its_head(looking):
    content = bomb(30_000, 20_000)
    assert len(content) < 1_000_000
    refused(ask(looking, content), 422, "1,000,000 pixels")
    refused(ask(looking, bomb(1001, 1000)), 422, "1001 x 1000 pixels are more than 1,000,000", "smaller")


def test_formats_that_run_programs_are_not_taken():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    assert reject_reason(eps, ServerSettings()).startswith("EPS files are not taken")
    assert (
        reject_reason(png(0), ServerSettings()) is None and reject_reason(PHOTO.read_bytes(), ServerSettings()) is None
    )


def sent(address, head, body=b"", wait=20):
    """Send bytes over a plain socket; return the answer and how much of the body could be sent."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        connection.sendall(head)
        done = 0
        try:
            while done < len(body):
                done += connection.send(body[done : done + 65536])
        except (BrokenPipeError, ConnectionResetError):
            pass
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
        except ConnectionResetError:
            pass
    return received, done


def head_of(*lines):
    return "\r\n".join(["POST /v1/captions HTTP/1.1", "Host: x", *lines, "", ""]).encode()


MULTIPART = "Content-Type: multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'


def test_a_large_body_is_refused_without_being_read(looking):
    answer, _ = sent(looking, head_of(MULTIPART, "Content-Length: 1000001"))
    assert b"413" in answer.splitlines()[0] and b"1 MB" in answer and b"connection: close" in answer.lower()
    # One that does not say its size is cut off where it is too large.
    size = 200_000_000
    chunk = b"%x\r\n%s\r\n" % (size, PART + bytes(size - len(PART)))
    answer, done = sent(looking, head_of(MULTIPART, "Transfer-Encoding: chunked"), chunk)
    assert done < size / 2  # what the buffers of two sockets hold, and not all
    assert b"413" in answer.splitlines()[0] and answer.endswith(b'send fewer or smaller images"}')


def test_a_request_that_does_not_come_is_given_up(serve, looking_bundle):
    address, _ = serve("--model", looking_bundle, "--timeout", 0.5)
    answer, _ = sent(address, head_of(MULTIPART, "Content-Length: 1000"), PART)
    assert b"408" in answer.splitlines()[0] and b"did not come whole within 0.5 s" in answer


def test_without_the_token_nothing_is_captioned(serve, looking_bundle, tmp_path):
    (tmp_path / "token").write_text("opensesame\n")
    address, _ = serve("--model", looking_bundle, "--token-file", tmp_path / "token")
    for token in (None, "opensesam", "opensesame2"):
        answer = refused(ask(address, png(0), token=token), 401, "Authorization: Bearer")
        assert answer.headers["www-authenticate"] == "Bearer"
    refused(httpx.get(f"{address}/metrics"), 401)
    assert ask(address, png(0), token="opensesame").status_code == 200
    assert {httpx.get(address + path).status_code for path in ("/", "/docs", "/healthz", "/readyz")} == {200}


def held(address):
    """Open a request for captions and send half of it; return what the other half goes to."""
    host, port = address.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    body = PART + png(0) + b"\r\n--b--\r\n"
    connection.sendall(head_of(MULTIPART, f"Content-Length: {len(body)}") + body[:40])

    def finish():
        connection.sendall(body[40:])
        answer = b""
        while b"}]}" not in answer and (part := connection.recv(65536)):
            answer += part
        connection.close()
        return answer

    return finish


def wait_for(condition):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def in_hand(address):
    return float(re.search(r"^showtell_requests_in_hand (\S+)", httpx.get(f"{address}/metrics").text, re.M).group(1))


def test_a_full_queue_sends_away_and_takes_again(serve, looking_bundle):
    address, _ = serve("--model", looking_bundle, "--queue", 2)
    finishing = [held(address), held(address)]
    wait_for(lambda: in_hand(address) == 2)
    answer = refused(ask(address, png(0)), 503, "try again")
    assert answer.headers["retry-after"] == "1"
    assert httpx.get(f"{address}/healthz").status_code == 200
    assert all(b"a dog" in finish() for finish in finishing)
    wait_for(lambda: in_hand(address) == 0)
    assert ask(address, png(0)).status_code == 200


def test_stopping_finishes_what_is_accepted_and_refuses_what_is_new(serve, looking_bundle):
    address, process = serve("--model", looking_bundle)
    finish = held(address)
    wait_for(lambda: in_hand(address) == 1)
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: httpx.get(f"{address}/readyz").status_code == 503)
    answer = refused(ask(address, png(0)), 503, "stopping")
    assert answer.headers["retry-after"] == "1" and process.poll() is None
    assert b"a dog" in finish()
    assert process.wait(20) == 0 and process.stderr.read() == ""


def test_a_second_signal_ends_at_once(serve, looking_bundle):
    address, process = serve("--model", looking_bundle)
    unfinished = held(address)
    wait_for(lambda: in_hand(address) == 1)
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: httpx.get(f"{address}/readyz").status_code == 503)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM and process.stderr.read() == ""
    del unfinished  # its connection was open until now


def test_a_bundle_may_want_more_than_clients_may_ask_for(serve, looking_bundle, tmp_path):
    bundle = Bundle.load(looking_bundle)
    replace(bundle, search_options=replace(bundle.search_options, beam_size=12)).save(tmp_path / "wide")
    address, _ = serve("--model", tmp_path / "wide")
    assert ask(address, png(0)).status_code == 200
    refused(ask(address, png(0), beam_size=12), 422, "10 at most")


def test_a_name_that_is_no_text_is_answered(looking):
    lines = [
        b"--x",
        b'Content-Disposition: form-data; name="files"; filename="+2AA-.png"',
        b"",
        png(0),
        b"--x--",
        b"",
    ]
    kind = {"Content-Type": "multipart/form-data; charset=utf-7; boundary=x"}
    answer = httpx.post(f"{looking}/v1/captions", content=b"\r\n".join(lines), headers=kind)
    assert answer.status_code == 200 and answer.json()["captions"][0]["file"] == "?.png"


def test_thirty_two_clients_get_their_own_answers(looking):
    # What comes back tells whose image it was: attention depends on the image, and n_best on the request.
    def client(number):
        for _ in range(4):
            answer = ask(looking, quarter(number % 4), b"broken", n_best=1 + number % 2, attention=True)
            good, broken = answer.json()["captions"]
            assert len(good["captions"]) == 1 + number % 2 and "error" in broken
            assert int(np.argmax(good["captions"][0]["attention"][0])) == number % 4
        return number

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(client, range(32))) == list(range(32))
    metrics = httpx.get(f"{looking}/metrics").text
    batches = float(re.search(r"^showtell_batch_images_count (\S+)", metrics, re.M).group(1))
    images = float(re.search(r"^showtell_batch_images_sum (\S+)", metrics, re.M).group(1))
    assert images >= 128 and batches < images  # some were captioned together
    assert 'showtell_images_total{outcome="failed"}' in metrics


def test_a_batch_is_of_one_kind_of_search_and_the_oldest_goes_first(looking_bundle):
    captioner = Captioner.load(looking_bundle)
    one = captioner.search_options
    two = replace(one, n_best=2)
    sizes = []
    batcher = Batcher(captioner, told=sizes.append)
    futures = [batcher.submit(png(number), two if number % 2 else one) for number in range(4 * BATCH_SIZE)]
    assert [len(future.result(20).captions) for future in futures] == [1, 2] * 2 * BATCH_SIZE
    batcher.close()
    assert sum(sizes) == 4 * BATCH_SIZE and max(sizes) <= BATCH_SIZE


def test_closing_captions_what_waits(looking_bundle):
    captioner = Captioner.load(looking_bundle)
    batcher = Batcher(captioner)
    futures = [batcher.submit(png(number), captioner.search_options) for number in range(50)]
    batcher.close()
    assert all(future.done() and future.result().captions[0].text == "a dog" for future in futures)


def test_a_failure_of_the_model_reaches_those_who_wait_and_nobody_else(looking_bundle):
    captioner = Captioner.load(looking_bundle)
    batcher = Batcher(captioner)
    bad = replace(captioner.search_options, suppress_tokens=(99,))
    with pytest.raises(ConfigurationError, match="suppress_tokens"):
        batcher.submit(png(0), bad).result(20)
    assert batcher.submit(png(0), captioner.search_options).result(20).captions[0].text == "a dog"
    batcher.close()


def test_every_path_of_the_description_is_on_the_page_of_reference(looking):
    description = httpx.get(f"{looking}/openapi.json").json()
    page = httpx.get(f"{looking}/docs").text
    assert set(description["paths"]) == {"/v1/captions", "/healthz", "/readyz", "/metrics"}
    for path in description["paths"]:
        assert path in page
    for field in ("files", "n_best", "beam_size", "attention", "confidence", "log_prob", "words", "error"):
        assert f"<code>{field}</code>" in page
    assert "http" not in re.sub(r"HTTP", "", page)  # nothing is loaded from elsewhere


def test_pages_may_load_nothing_from_elsewhere(looking):
    for path in ("/", "/docs", "/page.js", "/page.css", "/nowhere"):
        policy = httpx.get(looking + path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy


def test_what_cannot_work_is_told_before_anything_is_served(showtell, looking_bundle, tmp_path):
    (tmp_path / "token").write_text("\n")
    common = ("serve", "--model", looking_bundle, "--port", 0)
    assert "token: the file is empty" in showtell(*common, "--token-file", tmp_path / "token", status=2).stderr
    (tmp_path / "token").write_text("two words\n")
    assert "must be one word" in showtell(*common, "--token-file", tmp_path / "token", status=2).stderr
    assert "cannot be read (No such file" in showtell(*common, "--token-file", tmp_path / "none", status=2).stderr
    assert "cannot be read" in showtell(*common, "--token-file", tmp_path / "absent", status=2).stderr
    assert "queue must be more than 0" in showtell(*common, "--queue", 0, status=2).stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = showtell("serve", "--model", looking_bundle, "--port", port, status=2)
    assert f"cannot listen at 127.0.0.1, port {port}" in done.stderr and "--port" in done.stderr


def test_listening_beyond_this_machine_is_noted(looking_bundle):
    command = [sys.executable, "-m", "showtell", "serve", "--model", str(looking_bundle), "--port", "0"]
    with subprocess.Popen([*command, "--host", "0.0.0.0"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == (
            "note: whoever reaches 0.0.0.0 may use this server; --token-file keeps others out\n"
        )
        assert "http://0.0.0.0:" in process.stderr.readline()
        process.terminate()
        assert process.wait(20) == 0


def test_without_the_extra_the_install_command_is_told():
    program = (
        "import sys\nsys.modules['fastapi'] = None\n"
        "from showtell.cli import main\nsys.argv = ['showtell', 'serve']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert (
        done.stderr
        == "error: showtell serve needs more packages; install them with: pip install 'showtell[serve]'\n"
    )
