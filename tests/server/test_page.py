"""The pages in the system's Chromium, headless, driven by Playwright."""

import shutil

import httpx
import pytest
from helpers import EXAMPLES

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not on PATH; install it: apt-get install chromium")
PHOTOS = sorted(EXAMPLES.glob("*.jpg"))


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(serve, looking_bundle):
    return serve("--model", looking_bundle, "--max-megabytes", 1)[0]


@pytest.fixture(scope="module")
def protected_address(serve, looking_bundle, tmp_path_factory):
    token_file = tmp_path_factory.mktemp("token") / "token"
    token_file.write_text("opensesame")
    return serve("--model", looking_bundle, "--token-file", token_file)[0]


@pytest.fixture
def visit(browser):
    """Open a page. At the end, check that it logged no error and requested nothing from other servers.

    A test that expects errors removes them from `visit.errors`.
    """
    contexts, errors, urls = [], [], []

    def open_page(address, path="/", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: urls.append(request.url))
        page.goto(address + path)
        return page

    open_page.errors = errors
    yield open_page
    for context in contexts:
        context.close()
    assert all(url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:", "data:")) for url in urls)
    assert not errors


def choose(page, files):
    page.get_by_label("Choose images").set_input_files(files)


def wait_until_done(page, count):
    page.get_by_text(f"{count} of {count} done").wait_for()


def shows_attention(page):
    return page.locator(".picture.with-attention canvas").count() == 1


def focused(page, attribute):
    return page.evaluate(f"document.activeElement.{attribute}")


def test_words_of_a_caption_show_their_attention(visit, address, night_image):
    page = visit(address)
    choose(page, [night_image])
    wait_until_done(page, 1)
    assert page.get_by_role("img", name="a dog").is_visible()
    assert page.locator(".captions .words").all_inner_texts() == ["a\ndog", "dog", "a"]
    assert not shows_attention(page)
    page.get_by_role("button", name="a", exact=True).first.hover()
    assert shows_attention(page)
    assert page.locator(".attention-text").inner_text() == "“a”: mostly at the top right"
    alpha = page.locator("canvas").evaluate(
        "canvas => [...canvas.getContext('2d').getImageData(0, 0, 2, 2).data].filter((_, i) => i % 4 === 3)"
    )
    assert alpha[1] < 100 < 150 < min(alpha[0], alpha[2], alpha[3])  # dark except at the top right
    page.get_by_role("heading", name="showtell").hover()
    assert not shows_attention(page) and page.locator(".attention-text").inner_text() == ""


def test_the_keyboard_reaches_every_control(visit, address, night_image):
    page = visit(address)
    page.keyboard.press("Tab")
    assert focused(page, "id") == "files"
    choose(page, [night_image])
    wait_until_done(page, 1)
    for _ in range(3):  # number of captions, clear button, words of the first caption
        page.keyboard.press("Tab")
    assert focused(page, "textContent") == "a"
    assert page.locator(".attention-text").inner_text() == "“a”: mostly at the top right"
    page.keyboard.press("ArrowRight")
    assert focused(page, "textContent") == "dog" and shows_attention(page)
    page.keyboard.press("Home")
    assert focused(page, "textContent") == "a"
    page.keyboard.press("Tab")  # to the words of the next caption, not to the next word
    assert page.evaluate("document.activeElement.closest('li') === document.querySelectorAll('li')[1]")


def test_the_accessibility_tree_names_every_part(visit, address, night_image):
    page = visit(address)
    choose(page, [night_image])
    wait_until_done(page, 1)
    tree = page.locator("body").aria_snapshot()
    for part in (
        'heading "showtell" [level=1]',
        'button "Choose images"',
        'combobox "Captions per image"',
        "status: 1 of 1 done. a dog",
        'region "Captioned images"',
        'heading "night.png" [level=2]',
        'img "a dog"',
        'group "a dog. Use the arrow keys to move between words."',
        'link "HTTP API"',
    ):
        assert part in tree, tree


def dispatch_file(page, event, path):
    """Dispatch a drop or paste event with a file."""
    page.evaluate(
        """([event, bytes, name]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
            const eventWithFile = event === "paste"
                ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true })
                : new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
            document.body.dispatchEvent(eventWithFile);
        }""",
        [event, list(path.read_bytes()), path.name],
    )


def test_dropped_and_pasted_images_are_captioned(visit, address, night_image):
    page = visit(address)
    dispatch_file(page, "drop", night_image)
    wait_until_done(page, 1)
    dispatch_file(page, "paste", night_image)
    wait_until_done(page, 2)
    assert page.get_by_role("img", name="a dog").count() == 2
    page.get_by_role("button", name="Clear all").click()
    assert page.locator("article").count() == 0


def test_responses_to_cleared_images_are_ignored(visit, address, night_image):
    page = visit(address)
    requests = []
    page.route("**/v1/captions", lambda route: requests.append(route))
    with page.expect_request("**/v1/captions"):
        choose(page, [night_image])
    page.get_by_role("button", name="Clear all").click()
    with page.expect_response("**/v1/captions"):
        requests[0].continue_()
    page.wait_for_timeout(200)
    assert page.locator("#status").inner_text() == ""


def test_errors_are_shown_next_to_captions(visit, address, night_image, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no")
    (tmp_path / "large.jpg").write_bytes(bytes(1_000_001))
    page = visit(address)
    choose(page, [night_image, tmp_path / "broken.jpg", tmp_path / "large.jpg"])
    wait_until_done(page, 3)
    article = page.locator("article")
    assert "image" in article.filter(has_text="broken.jpg").locator(".error").inner_text()
    too_large = article.filter(has_text="large.jpg").locator(".error").inner_text()
    assert too_large == "The file exceeds 1 MB. Reduce the image."
    assert page.get_by_role("img", name="a dog").count() == 1
    assert [text for text in visit.errors if "422" in text]  # browsers log every failed request
    visit.errors.clear()


def test_the_page_asks_for_the_token(visit, protected_address, night_image):
    page = visit(protected_address)
    choose(page, [night_image, night_image])
    page.get_by_text("This server requires an access token.").wait_for()
    field = page.get_by_label("Access token")
    field.fill("wrong")
    field.press("Enter")
    page.get_by_text("Wrong access token.").wait_for()
    field.fill("opensesame")
    page.get_by_role("button", name="Continue").click()
    wait_until_done(page, 2)
    assert page.get_by_role("img", name="a dog").count() == 2
    visit.errors[:] = [text for text in visit.errors if "401" not in text]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_follows_the_colour_scheme(visit, address, night_image, scheme):
    page = visit(address, viewport={"width": 320, "height": 640}, color_scheme=scheme)
    choose(page, [night_image])
    wait_until_done(page, 1)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    background, text = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        ".map((color) => color.match(/\\d+/g).reduce((sum, part) => sum + Number(part), 0) / 3)"
    )
    assert (background > 200 and text < 60) if scheme == "light" else (background < 60 and text > 200)


def test_the_page_shows_the_captions_of_the_api(visit, serve):
    address, _ = serve()
    page = visit(address)
    choose(page, PHOTOS)
    wait_until_done(page, len(PHOTOS))
    files = [("files", (photo.name, photo.read_bytes())) for photo in PHOTOS]
    images = httpx.post(f"{address}/v1/captions", files=files, data={"n_best": 3}, timeout=60).json()["captions"]
    for number, image in enumerate(images):
        article = page.locator("article").nth(number)
        assert article.get_by_role("heading").inner_text() == image["file"]
        assert article.get_by_role("img").get_attribute("alt") == image["caption"]
        assert article.locator(".confidence").all_inner_texts() == [
            f"confidence {int(100 * caption['confidence'] + 0.5)} %" for caption in image["captions"]
        ]


def test_the_page_retries_if_the_server_is_overloaded(visit, serve, looking_bundle, night_image):
    address, _ = serve("--model", looking_bundle, "--queue", 1)
    page = visit(address)
    choose(page, [night_image] * 6)
    wait_until_done(page, 6)
    assert page.get_by_role("img", name="a dog").count() == 6
    visit.errors[:] = [text for text in visit.errors if "503" not in text]


def try_captions(page, image):
    """Caption an image with "Try it out" in Swagger UI; return the text of the response."""
    operation = page.locator(".opblock", has_text="/v1/captions")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.locator("input[type=file]").set_input_files(image)
    operation.get_by_role("button", name="Execute").click()
    response = operation.locator(".live-responses-table .response")
    response.wait_for()
    return response.inner_text()


def test_swagger_ui_captions_an_image(visit, address, night_image):
    page = visit(address, "/docs")
    page.get_by_role("heading", name="showtell").wait_for()
    assert page.get_by_role("button", name="Authorize").count() == 0
    response = try_captions(page, night_image)
    assert response.startswith("200") and '"caption": "a dog"' in response
    page.get_by_role("link", name="Caption images in the browser").click()
    page.get_by_role("heading", name="showtell").wait_for()


def test_swagger_ui_sends_the_token(visit, protected_address, night_image):
    page = visit(protected_address, "/docs")
    page.get_by_role("button", name="Authorize").click()
    page.locator(".auth-container input").fill("opensesame")
    page.locator(".auth-container").get_by_role("button", name="Apply credentials").click()
    page.get_by_role("button", name="Close").first.click()
    assert '"caption": "a dog"' in try_captions(page, night_image)
