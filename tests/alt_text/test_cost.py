"""The cost of large pages."""

import time

import pytest

from showtell.alt_text import Page, Website, find_missing_alts, insert_texts

# Linear time takes less than a second for a page of a megabyte. Quadratic time takes minutes.
MAX_SECONDS = 10.0
MEGABYTE = 1_000_000


@pytest.mark.parametrize("suffix", [".html", ".md"])
@pytest.mark.parametrize(
    "piece",
    [
        "<!--", "<![CDATA[", "<p ", "<p x='", '<img alt="', "<img ", "<script>", "<title>", "<?php ", "{{", "{{{#",
        "![](", "[", "`a``", "> ", "- a\n  - b\n", "*a_b", "[r]: a\n", "---\n", "<p>", "![](a.jpg)",
    ],
)  # fmt: skip
def test_repeated_pieces_take_linear_time(piece, suffix):
    page = (piece * (MEGABYTE // len(piece))).encode() + b"\n\n<img src=a.jpg>\n\n![](a.jpg)\n"
    began = time.process_time()
    insert_texts(page, [(missing, "a dog") for missing in find_missing_alts(page, suffix)])
    assert time.process_time() - began < MAX_SECONDS


@pytest.mark.parametrize(
    ("suffix", "image"), [(".html", "<p><img src=images/{}.jpg>\n"), (".md", "![](images/{}.jpg)\n")]
)
def test_many_images_take_linear_time(tmp_path, suffix, image):
    path = tmp_path / f"page{suffix}"
    path.write_text("".join(image.format(number) for number in range(40_000)))
    began = time.process_time()
    page = Page.read(path, Website(tmp_path))
    content = insert_texts(page.content, [(missing, "a dog") for missing, _ in page.missing])
    diff = page.diff(content)
    assert time.process_time() - began < MAX_SECONDS
    assert len(page.missing) == content.count(b"a dog") == diff.count(b"a dog") == 40_000


@pytest.mark.parametrize("opening", ["> ", "- ", "[", "![", "*a ", "<b>", "{{"])
def test_deeply_nested_markdown_is_read(opening):
    page = (opening * 50_000 + "\n\n![](a.jpg)\n").encode()
    assert find_missing_alts(page, ".md")[-1].source == "a.jpg"
