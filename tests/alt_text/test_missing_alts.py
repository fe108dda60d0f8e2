"""Finding images without alt text, and inserting texts."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from showtell.alt_text import Website, find_missing_alts, insert_texts
from showtell.errors import PageError


def fill(content, suffix=".html", text="a dog"):
    missing = find_missing_alts(content, suffix)
    return insert_texts(content, [(image, text) for image in missing])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'<img src="a.jpg">', b'<img alt="a dog" src="a.jpg">'),
        (b"<IMG SRC=a.jpg>", b'<IMG alt="a dog" SRC=a.jpg>'),
        (b"<img src=a.jpg/>", b'<img alt="a dog" src=a.jpg/>'),
        (b"<img src='a.jpg'/>", b"<img alt=\"a dog\" src='a.jpg'/>"),
        (b"<img/src='a.jpg'>", b"<img alt=\"a dog\"/src='a.jpg'>"),
        (b"<p>\r\n\t<img\r\n\tsrc='a.jpg'\r\n>\r\n", b"<p>\r\n\t<img alt=\"a dog\"\r\n\tsrc='a.jpg'\r\n>\r\n"),
        (b'\xef\xbb\xbf\n\xc3\xa9<img src="a.jpg">', b'\xef\xbb\xbf\n\xc3\xa9<img alt="a dog" src="a.jpg">'),
        (b'caf\xe9 <img src="a.jpg">', b'caf\xe9 <img alt="a dog" src="a.jpg">'),
        (b'<img title="a > b" src="a.jpg">', b'<img alt="a dog" title="a > b" src="a.jpg">'),
        (b'<img data-alt="" src="a.jpg">', b'<img alt="a dog" data-alt="" src="a.jpg">'),
        (
            b'<a><img src="a.jpg"></a><img src="a.jpg">',
            b'<a><img alt="a dog" src="a.jpg"></a><img alt="a dog" src="a.jpg">',
        ),
        (
            b'<picture><source srcset="b.avif"><img src="a.jpg"></picture>',
            b'<picture><source srcset="b.avif"><img alt="a dog" src="a.jpg"></picture>',
        ),
        (b"<template></template><img src=a>", b'<template></template><img alt="a dog" src=a>'),
    ],
)
def test_only_the_attribute_is_inserted(before, after):
    assert fill(before) == after and find_missing_alts(after, ".html") == []


@pytest.mark.parametrize(
    "content",
    [
        b'<img src="a.jpg" alt="">',
        b'<img alt src="a.jpg">',
        b"<img src=\"a.jpg\" ALT='mine'>",
        b'<img src="a.jpg" role="presentation">',
        b'<img src="a.jpg" aria-hidden="true">',
        b'<img src="a.jpg" aria-label="mine">',
        b"<img>",
        b'<img data-src="a.jpg">',
        b'<!-- <img src="a.jpg"> -->',
        b"<script>document.write('<img src=a.jpg>')</script>",
        b"<style>/* <img src=a.jpg> */</style>",
        b'<template><template></template><img src="a.jpg"></template>',
        b"<textarea><img src=a.jpg></textarea>",
        b"<title><img src=a.jpg></title>",
        b'<p title="<img src=a.jpg>">',
        b"<image src=a.jpg>",
        b"<imgs src=a.jpg>",
        b"&lt;img src=a.jpg>",
        b"<img src=a.jpg",
    ],
)
def test_described_decorative_and_inert_images_are_ignored(content):
    assert find_missing_alts(content, ".html") == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"![](a.jpg)", b"![a dog](a.jpg)"),
        (b"![ ](<a b.jpg> 'title')", b"![a dog ](<a b.jpg> 'title')"),
        (b"[![](a.jpg)](page.html)", b"[![a dog](a.jpg)](page.html)"),
        (b"![][photo]\n\n[photo]: a.jpg\n", b"![a dog][photo]\n\n[photo]: a.jpg\n"),
        (b"| ![](a.jpg) | `![](a.jpg)` |\r\n", b"| ![a dog](a.jpg) | `![](a.jpg)` |\r\n"),
        (b"- a\n\n      ![](a.jpg)\n\n  ![](a.jpg)", b"- a\n\n      ![](a.jpg)\n\n  ![a dog](a.jpg)"),
        (b"---\nimage: ![](a.jpg)\n---\n![](a.jpg)\n", b"---\nimage: ![](a.jpg)\n---\n![a dog](a.jpg)\n"),
        (b"gap0x ![](a.jpg)", b"gap0x ![a dog](a.jpg)"),
        (b'text <img src="a.jpg"> `<img src="a.jpg">`', b'text <img alt="a dog" src="a.jpg"> `<img src="a.jpg">`'),
        (b'<p>\n<img\n  src="a.jpg">\n</p>\n', b'<p>\n<img alt="a dog"\n  src="a.jpg">\n</p>\n'),
        (
            b"<!--\n<img src=a.jpg>\n![](a.jpg)\n-->\n![](a.jpg)",
            b"<!--\n<img src=a.jpg>\n![](a.jpg)\n-->\n![a dog](a.jpg)",
        ),
    ],
)
def test_markdown_images_get_their_text_between_the_brackets(before, after):
    assert fill(before, ".md") == after and find_missing_alts(after, ".md") == []


@pytest.mark.parametrize(
    "content",
    [
        b"![mine](a.jpg)",
        b"```\n![](a.jpg)\n<img src=a.jpg>\n```\n",
        b"~~~ md\n![](a.jpg)\n",
        b"    ![](a.jpg)\n",
        b"`` ` ![](a.jpg) ``",
        b"\\![](a.jpg)",
        b"![](a b.jpg)",
        b"![][nowhere]",
        b"![]",
        b"![around ![](a.jpg) it](b.jpg)",
        b'<img src="a.jpg" alt="">',
        b"<script>\n'![](a.jpg) <img src=a.jpg>'\n</script>\n",
    ],
)
def test_markdown_code_and_incomplete_images_are_ignored(content):
    assert find_missing_alts(content, ".md") == []


def test_images_are_found_with_address_and_position():
    content = '<p>é\r\n\n<img\nsrc="a&amp;b.jpg"><img srcset="c.jpg 2x, d.jpg"><base href="/x/">'.encode()
    first, second = find_missing_alts(content, ".HTML")
    assert (first.source, first.line, content[: first.offset]) == ("/x/a&b.jpg", 3, "<p>é\r\n\n<img".encode())
    assert (second.source, second.line) == ("/x/c.jpg", 4)
    (image,) = find_missing_alts("---\na: b\n---\n\n![](caf\u00e9.jpg)".encode("latin-1"), ".md")
    assert (Website(Path()).local_path(image.source, Path("p.md")), image.line) == (Path("café.jpg"), 5)


def test_other_formats_and_encodings_are_rejected():
    for content, suffix, message in [
        ("<img src='a.jpg'>".encode("utf-16"), ".html", "UTF-16"),
        (b"<img src='a.jpg'>", ".txt", "not HTML or Markdown"),
    ]:
        with pytest.raises(PageError, match=message):
            find_missing_alts(content, suffix)


# Fragments of pages, in any order and with any bytes between them.
FRAGMENTS = st.sampled_from(
    [
        b'<img src="a.jpg">', b"<IMG\r\nSRC=b.jpg/>", b'<img alt="" src=c>', b"<img", b"![](a.jpg)", b"![ ](b.jpg)",
        b"![", b"](", b"![][r]\n", b"[r]: a.jpg\n", b"`", b"```\n", b"    ",
        b"- ", b"> ", b"\n", b"\r\n", b"\n\n", b"---\n",
        b"<!--", b"-->", b"<script>", b"</script>", b"<template>", b"</template>", b"<p ", b">", b'"', b"'", b"\\",
        b"<![CDATA[", b"<![x[", b"<!x", b"<?x", b"</", b"\xc3\xa9", b"\xe9",
         b"\xc2\x85", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"gap0x", b"&amp;",
    ]
)  # fmt: skip
PAGES = st.lists(st.one_of(FRAGMENTS, FRAGMENTS, st.binary(max_size=3)), max_size=25).map(b"".join)


@settings(deadline=None, max_examples=400)
@given(content=PAGES, suffix=st.sampled_from([".html", ".md"]))
def test_inserting_texts_changes_no_other_bytes_and_leaves_no_missing_alts(content, suffix):
    try:
        after = fill(content, suffix, "some words")
    except PageError:
        return
    assert after.replace(b' alt="some words"', b"").replace(b"some words", b"") == content
    assert find_missing_alts(after, suffix) == [] and fill(content, suffix, " \n") == content


# Character references of control characters and unassigned characters are read as other characters.
CHARACTERS = st.characters(exclude_categories=["Cs", "Cc", "Cn"])


@settings(deadline=None, max_examples=150)
@given(text=st.text(CHARACTERS, max_size=30), legacy=st.booleans())
def test_html_and_markdown_parsers_read_the_inserted_text(text, legacy):
    words = " ".join([*text.split(), "a"])
    encoding = "latin-1" if legacy else "utf-8"
    page = fill("é<img src=a>".encode(encoding), ".html", words).decode(encoding)
    texts = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: texts.append(dict(attrs).get("alt", ""))
    parser.feed(page)
    assert texts == [words]
    source = fill("é![](a)".encode(encoding), ".md", words).decode(encoding)
    (image,) = [token for token in MarkdownIt("commonmark").parse(source)[1].children if token.type == "image"]
    assert "".join(token.content for token in image.children) == words
