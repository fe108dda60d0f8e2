"""The page in a real browser: Chromium of the system, headless, driven by Playwright."""

import shutil

import httpx
import pytest
from helpers import EXAMPLES

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on PATH; install it, e.g. apt-get install chromium")
PHOTOS = sorted(EXAMPLES.glob("*.jpg"))


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def looking(serve, looking_bundle):
    return serve("--model", looking_bundle, "--max-megabytes", 1)[0]


@pytest.fixture
def visit(browser):
    """Open a page as a browser with options would; at the end, it must have asked no other server nor complained."""
    contexts, complaints, asked = [], [], []

    def open_page(address, path="/", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address + path)
        return page

    open_page.complaints = complaints
    yield open_page
    for context in contexts:
        context.close()
    assert all(url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:")) for url in asked)
    assert not complaints


def done(page, count):
    page.get_by_text(f"{count} of {count} done").wait_for()


def canvas_shown(page):
    return page.locator(".picture.lit canvas").count() == 1


def test_chosen_images_are_captioned_and_words_show_where_they_looked(visit, looking, night_image):
    page = visit(looking)
    page.get_by_label("Choose images").set_input_files([night_image])
    done(page, 1)
    assert page.get_by_role("img", name="a dog").is_visible()
    assert page.locator(".captions .words").all_inner_texts() == ["a\ndog", "dog", "a"]
    assert not canvas_shown(page)
    page.get_by_role("button", name="a", exact=True).first.hover()
    assert canvas_shown(page) and page.locator(".where").inner_text() == "“a”: most at the top right"
    alpha = page.locator("canvas").evaluate(
        "canvas => [...canvas.getContext('2d').getImageData(0, 0, 2, 2).data].filter((_, i) => i % 4 === 3)"
    )
    assert alpha[1] < 100 < 150 < min(alpha[0], alpha[2], alpha[3])  # all is dimmed but the upper right
    page.get_by_role("heading", name="showtell").hover()
    assert not canvas_shown(page) and page.locator(".where").inner_text() == ""


def test_the_keyboard_reaches_all(visit, looking, night_image):
    page = visit(looking)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    page.get_by_label("Choose images").set_input_files([night_image])
    done(page, 1)
    for _ in range(3):  # the number of captions, the button that clears, the words of the first caption
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "a"
    assert page.locator(".where").inner_text() == "“a”: most at the top right"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == "dog" and canvas_shown(page)
    page.keyboard.press("Home")
    assert page.evaluate("document.activeElement.textContent") == "a"
    page.keyboard.press("Tab")  # to the words of the next caption, not to the next word
    assert page.evaluate("document.activeElement.closest('li') === document.querySelectorAll('li')[1]")


def test_what_a_screen_reader_finds(visit, looking, night_image):
    page = visit(looking)
    page.get_by_label("Choose images").set_input_files([night_image])
    done(page, 1)
    tree = page.locator("body").aria_snapshot()
    for part in (
        'heading "showtell" [level=1]',
        'button "Choose images"',
        'combobox "Captions for each image"',
        "status: 1 of 1 done. a dog",
        'region "Captioned images"',
        'heading "night.png" [level=2]',
        'img "a dog"',
        'group "a dog. Words; arrow keys go through them"',
        'link "HTTP API"',
    ):
        assert part in tree, tree


def give(page, event, path):
    """Drop or paste a file, as a browser tells the page of it."""
    page.evaluate(
        """([event, bytes, name]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
            const made = event === "paste"
                ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true })
                : new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
            document.body.dispatchEvent(made);
        }""",
        [event, list(path.read_bytes()), path.name],
    )


def test_dropped_and_pasted_images_are_captioned(visit, looking, night_image):
    page = visit(looking)
    give(page, "drop", night_image)
    done(page, 1)
    give(page, "paste", night_image)
    done(page, 2)
    assert page.get_by_role("img", name="a dog").count() == 2
    page.get_by_role("button", name="Clear all").click()
    assert page.locator("article").count() == 0


def test_what_cannot_be_captioned_is_told_beside_what_can(visit, looking, night_image, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no")
    (tmp_path / "large.jpg").write_bytes(bytes(1_000_001))
    page = visit(looking)
    page.get_by_label("Choose images").set_input_files([night_image, tmp_path / "broken.jpg", tmp_path / "large.jpg"])
    done(page, 3)
    assert sorted(page.locator("article .error").all_inner_texts()) == [
        "The file has more than 1 MB; make it smaller.",
        "not an image in a format that can be read here",
    ]
    assert page.get_by_role("img", name="a dog").count() == 1
    assert [text for text in visit.complaints if "422" in text]  # browsers log every such answer
    visit.complaints.clear()


def test_the_token_is_asked_for(visit, serve, looking_bundle, night_image, tmp_path):
    (tmp_path / "token").write_text("opensesame")
    address, _ = serve("--model", looking_bundle, "--token-file", tmp_path / "token")
    page = visit(address)
    page.get_by_label("Choose images").set_input_files([night_image, night_image])
    field = page.get_by_label("This server wants a token")
    field.fill("wrong")
    field.press("Enter")
    page.get_by_text("does not take this token").wait_for()
    field.fill("opensesame")
    page.get_by_role("button", name="Go on").click()
    done(page, 2)
    assert page.get_by_role("img", name="a dog").count() == 2
    visit.complaints[:] = [text for text in visit.complaints if "401" not in text]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_the_scheme_of_colours(visit, looking, night_image, scheme):
    page = visit(looking, viewport={"width": 320, "height": 640}, color_scheme=scheme)
    page.get_by_label("Choose images").set_input_files([night_image])
    done(page, 1)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    ground, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        ".map((color) => color.match(/\\d+/g).reduce((sum, part) => sum + Number(part), 0) / 3)"
    )
    assert (ground > 200 and ink < 60) if scheme == "light" else (ground < 60 and ink > 200)


def test_the_examples_are_captioned_as_by_the_captioner(visit, serve):
    address, _ = serve()
    page = visit(address)
    page.get_by_label("Choose images").set_input_files(PHOTOS)
    done(page, len(PHOTOS))
    files = [("files", (photo.name, photo.read_bytes())) for photo in PHOTOS]
    answer = httpx.post(f"{address}/v1/captions", files=files, data={"n_best": 3}, timeout=60).json()["captions"]
    for number, entry in enumerate(answer):
        article = page.locator("article").nth(number)
        assert article.get_by_role("heading").inner_text() == entry["file"]
        assert article.get_by_role("img").get_attribute("alt") == entry["caption"]
        assert article.locator(".confidence").all_inner_texts() == [
            f"confidence {int(100 * found['confidence'] + 0.5)} %" for found in entry["captions"]
        ]


def test_the_reference_is_shown_without_help_from_elsewhere(visit, looking):
    page = visit(looking, "/docs")
    assert page.get_by_role("heading", name="POST /v1/captions").is_visible()
    page.get_by_role("link", name="here").click()
    page.get_by_role("heading", name="showtell").wait_for()


def test_a_server_with_its_hands_full_is_asked_again(visit, serve, looking_bundle, night_image):
    address, _ = serve("--model", looking_bundle, "--queue", 1)
    page = visit(address)
    page.get_by_label("Choose images").set_input_files([night_image] * 6)
    done(page, 6)
    assert page.get_by_role("img", name="a dog").count() == 6
    visit.complaints[:] = [text for text in visit.complaints if "503" not in text]
