"""Pages of other sites cannot use the server, except those that it was told to accept."""

import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest
from fastapi.testclient import TestClient

from showtell.errors import ConfigurationError
from showtell.inference.captioner import Captioner
from showtell.server import ServerSettings, create_app
from showtell.server.settings import restrict_hosts

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not on PATH")
PATHS = ("/", "/docs", "/openapi.json", "/static/page.js", "/healthz", "/readyz", "/metrics", "/nowhere")
WEBSITE = "https://example.com"


@pytest.fixture(scope="module")
def local_address(serve, looking_bundle):
    """Start a server with the default options; return its address."""
    return serve("--model", looking_bundle)[0]


@pytest.fixture(scope="module")
def foreign_website(tmp_path_factory):
    """Start the web server of a foreign page; return its origin."""
    folder = tmp_path_factory.mktemp("website")
    (folder / "index.html").write_text("<!doctype html><title>A page</title>")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *arguments: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://website.test:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def open_address(serve, looking_bundle, foreign_website):
    """Start a server that accepts another host name and two websites; return its address."""
    options = ["--allow-host", "Photos.LAN", "--allow-origin", WEBSITE, "--allow-origin", foreign_website]
    return serve("--model", looking_bundle, *options)[0]


def get(address, path="/healthz", **headers):
    return httpx.get(address + path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def assert_refused(response, *parts):
    assert response.status_code == 403, response.text
    assert response.headers["content-type"] == "application/json"
    message = response.json()["error"]
    assert message.isprintable() and all(part in message for part in parts), message
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("host", ["localhost", "LocalHost:1", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:8000"])
def test_a_local_server_accepts_local_host_names_with_any_port(local_address, host):
    assert get(local_address, host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("example.com", "example.com:8000", "localhost.example.com", "localhost@example.com", "example.com@localhost"),
        *("127.0.0.1.example.com", "192.168.0.1", "0.0.0.0", "[::2]", "::1", "localhost.", "localhost:x", "localhost/"),
        *("", "xn--localhost", "localhost,example.com", "a" * 5000),
    ],
)
def test_a_local_server_refuses_other_host_names(local_address, host):
    assert_refused(get(local_address, host=host), "--allow-host")


@pytest.mark.parametrize("path", PATHS)
def test_every_path_refuses_other_host_names_and_origins(local_address, path):
    assert_refused(get(local_address, path, host="example.com"), "'example.com'", "--allow-host NAME")
    assert_refused(get(local_address, path, origin=WEBSITE), f"'{WEBSITE}'", "--allow-origin URL")
    assert_refused(httpx.post(local_address + path, headers={"Origin": WEBSITE}), "--allow-origin URL")


@pytest.mark.parametrize(
    "origin",
    [
        *(
            WEBSITE,
            "null",
            "",
            "http://",
            "http://localhost",
            "http://localhost:1",
            "http://localhost.example.com:{port}",
        ),
        *("http://127.0.0.1:{port}", "http://example.com@localhost:{port}", "file://", "chrome-extension://abc"),
    ],
)
def test_a_foreign_origin_is_refused(local_address, origin):
    port = local_address.rpartition(":")[2]
    response = get(local_address, host=f"localhost:{port}", origin=origin.format(port=port))
    assert_refused(response, "origin not accepted")


def test_the_own_origin_is_accepted_with_and_without_its_default_port(local_address):
    for host, origin in {
        "localhost:8000": "http://localhost:8000",
        "127.0.0.1:8000": "http://127.0.0.1:8000",
        "[::1]:8000": "http://[::1]:8000",
        "localhost": "http://localhost",
        "localhost:443": "https://localhost",
        "localhost:80": "http://LOCALHOST",
    }.items():
        assert get(local_address, host=host, origin=origin).status_code == 200, origin


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_cross_site_request_is_refused_unless_it_follows_a_link(local_address, site):
    assert_refused(get(local_address, sec_fetch_site=site), "another site", "--allow-origin URL")
    for mode, destination in [("no-cors", "image"), ("navigate", "iframe"), ("cors", "document")]:
        headers = {"sec_fetch_site": site, "sec_fetch_mode": mode, "sec_fetch_dest": destination}
        assert_refused(get(local_address, "/static/icon.svg", **headers), "another site")
    link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert httpx.get(local_address, headers=link).status_code == 200
    assert_refused(httpx.post(f"{local_address}/v1/captions", headers=link), "another site")
    for own in ("same-origin", "none"):
        assert get(local_address, sec_fetch_site=own).status_code == 200


def test_options_open_the_server_to_a_host_name_and_a_website(open_address):
    assert get(open_address, host="photos.lan:8000").status_code == 200
    assert get(open_address, host="localhost").status_code == 200
    assert_refused(get(open_address, host="example.com"), "--allow-host")
    response = get(open_address, "/v1/captions", origin=WEBSITE, sec_fetch_site="cross-site")
    assert response.status_code == 405 and response.headers["access-control-allow-origin"] == WEBSITE
    assert response.headers["access-control-expose-headers"] == "Retry-After"
    for origin in ("https://example.org", "http://example.com", "https://example.com:8000", "null"):
        assert_refused(get(open_address, origin=origin), "--allow-origin")


def test_a_website_may_ask_which_requests_it_may_send(open_address, local_address):
    def ask(address, method="POST", header="authorization"):
        headers = {
            "Origin": WEBSITE,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": header,
            "Access-Control-Request-Private-Network": "true",
        }
        return httpx.options(f"{address}/v1/captions", headers=headers)

    response = ask(open_address)
    assert response.status_code == 200 and response.headers["access-control-allow-origin"] == WEBSITE
    assert response.headers["access-control-allow-private-network"] == "true"
    for response in (ask(open_address, method="DELETE"), ask(open_address, header="x-other")):
        assert response.status_code == 400 and response.json()["error"].startswith("invalid request: Disallowed CORS")
    assert_refused(ask(local_address), "--allow-origin")


def test_an_application_without_options_accepts_every_host_name_but_no_foreign_origin(looking_bundle):
    with TestClient(create_app(Captioner.load(looking_bundle), ServerSettings(token="opensesame"))) as client:
        assert client.get("/healthz", headers={"Host": "example.com"}).status_code == 200
        assert_refused(client.get("/healthz", headers={"Origin": WEBSITE}), "--allow-origin")


def test_only_loopback_addresses_without_a_token_restrict_host_names():
    settings = ServerSettings(allow_hosts=("photos.lan",))
    assert restrict_hosts(ServerSettings(), "localhost", "127.0.0.1").allow_hosts == ("localhost",)
    assert restrict_hosts(settings, "MyHost", "127.0.1.1").allow_hosts == ("photos.lan", "myhost")
    assert restrict_hosts(ServerSettings(), "::1", "::1").allow_hosts == ("::1",)
    for address in ("0.0.0.0", "::", "192.168.0.1", "fe80::1%eth0"):
        assert restrict_hosts(settings, address, address) is settings
        assert restrict_hosts(ServerSettings(), address, address).allow_hosts is None
    assert restrict_hosts(ServerSettings(token="t"), "::1", "::1").allow_hosts is None


@pytest.mark.parametrize(
    "settings",
    [
        *({"allow_hosts": (name,)} for name in ("a:80", "http://a", "A", "[::1]", "*", "")),
        *(
            {"allow_origins": (url,)}
            for url in ("*", "null", "a.com", "https://a/", "https://", "HTTPS://a", "https://a:x")
        ),
    ],
)
def test_invalid_host_names_and_origins_are_refused(settings):
    with pytest.raises(ConfigurationError, match="write it like"):
        ServerSettings(**settings)


# With Chromium


@pytest.fixture(scope="module")
def browser():
    """Start a Chromium for which website.test is this machine, as after DNS rebinding."""
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--host-resolver-rules=MAP website.test 127.0.0.1"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


UPLOAD = """async ([address, bytes, mode]) => {
    const form = new FormData();
    form.append("files", new File([new Uint8Array(bytes)], "a.png"));
    try {
        const response = await fetch(address + "/v1/captions", { method: "POST", body: form, mode });
        return response.type === "opaque" ? "opaque" : await response.text();
    } catch (error) {
        return String(error);
    }
}"""


LOADS_IMAGE = """url => new Promise((done) => {
    Object.assign(new Image(), { src: url, onload: () => done(true), onerror: () => done(false) });
})"""


def captioned_images(address):
    return 'showtell_images_total{outcome="captioned"}' in httpx.get(f"{address}/metrics").text


@needs_chromium
def test_a_foreign_page_cannot_use_a_local_server(browser, foreign_website, local_address, night_image):
    page = browser.new_page()
    page.goto(foreign_website)
    content = list(night_image.read_bytes())
    for mode in ("cors", "no-cors"):
        assert "a dog" not in page.evaluate(UPLOAD, [local_address, content, mode])
    assert page.evaluate(LOADS_IMAGE, f"{local_address}/static/icon.svg") is False  # it cannot tell that showtell runs
    assert page.goto(f"{local_address}/").status == 200  # a link may be followed
    assert not captioned_images(local_address)
    page.close()


@needs_chromium
def test_a_page_cannot_reach_a_local_server_by_dns_rebinding(browser, local_address, night_image):
    page = browser.new_page()
    port = local_address.rpartition(":")[2]
    response = page.goto(f"http://website.test:{port}/")
    assert response.status == 403 and "--allow-host" in response.text()
    content = list(night_image.read_bytes())
    assert "host name not accepted" in page.evaluate(UPLOAD, ["", content, "cors"])
    assert not captioned_images(local_address)
    page.close()


@needs_chromium
def test_an_allowed_page_can_use_a_local_server(browser, foreign_website, open_address, night_image):
    page = browser.new_page()
    page.goto(foreign_website)
    content = list(night_image.read_bytes())
    assert "a dog" in page.evaluate(UPLOAD, [open_address, content, "cors"])
    page.close()
