"""HTML and Markdown pages made of nested, repeated and unclosed pieces, template code and strange addresses.

A changed page differs from the page only by texts within <img and ![]. For other parsers, the rest of it is the same.
Changing it twice changes nothing more, template code stays, and no address leads out of the folder.
"""

import os
import re
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyromark
from runner import Case

from showtell.alt_text import Page, Website, insert_texts

TEXT = "zq"  # no fragment contains it
LARGE_SHARE = 0.03  # of the pages repeat a fragment up to 5 MB
MAX_CHECKED = 10_000  # bytes; the other parsers take quadratic time, and reading twice would hide the cost of a page
SUFFIXES = (".html", ".md", ".xhtml")
ADDRESSES = (
    "a.jpg", "b%20c.jpg", "/a.jpg", "sub/../a.jpg", "../secret.jpg", "/../secret.jpg", "%2e%2e/secret.jpg",
    "..%2Fsecret.jpg", "link/secret.jpg", "link.jpg", "file:///etc/passwd", "FILE:a.jpg", "/etc/passwd",
    "//host/a.jpg", "https://x.org/a.jpg", "data:image/png;base64,AA", "a%00.jpg", "\\\\host\\a.jpg", "C:\\a.jpg",
    "a{1}.jpg", "{{ url }}", "<%= url %>", "${url}", "&#x2e;&#46;/secret.jpg", "&#99999999999;.jpg", "//[", "?a#b",
    "é.jpg", "%E9.jpg", "a.jpg " * 3, "x" * 5000, "&#" + "1" * 5000 + ";", "",
)  # fmt: skip
HTML = (
    "<p>", "</p>", "<p", "<b x='", '<b x="', "'", '"', ">", "<", "</", "/>", "<!--", "-->", "<!-->", "--!>", "<!x>",
    "<!", "<?x", "?>", "<![CDATA[", "]]>", "<![if x]>", "<script>", "<script/>", "</script>", "<style>", "</style>",
    "<title>", "</title>", "<textarea>", "</textarea>", "<template>", "</template>", "<noscript>", "</noscript>",
    "<svg>", "</svg>", "<plaintext>", "<base href='sub/'>", "<base href={{x}}>", "<picture>", "&amp;", "&", "<img",
    "<img ", " alt=''", " alt", "alt=", " = ", "<IMG\r\nSRC=a.jpg/>", "<img srcset='a.jpg 2x'>",
    "<img :alt=x src=a.jpg>",
)  # fmt: skip
MARKDOWN = (
    "![", "](", "]", "[", ")", "![][r]\n", "\n[r]: a.jpg\n", "`", "``", "\n```\n", "\n~~~\n", "    ", "\t", "\n- ",
    "\n> ", "\n1. ", "\n", "\r\n", "\r", "\n\n", "\n---\n", "\n***\n", "# ", "*", "_", "**", "\\", "<https://x.org>",
    "\n<div>\n", "\n</div>\n", "| a | b |\n|---|---|\n| ",
)  # fmt: skip
TEMPLATES = (
    "{{", "}}", "{%", "%}", "{#", "#}", "<%", "%>", "<?php ", "<?= ", "?>", "{/*", "*/}", "{", "}", "${",
    "{% if x > 1 %}alt='y'{% endif %}", "<%= '<img src=a.jpg>' %>", "{/* <img src=a.jpg> ![](a.jpg) */}",
    "<?php if ($a > 1) echo '<img src=a.jpg>' ?>", "{{ '<img src=a.jpg>' }}", "{# <img src=a.jpg>\n\n ![](a.jpg) #}",
)  # fmt: skip
OTHERS = ("a", " ", "é", "\u2028", "\x85", "\ufeff", "gap0x", "\x0b", "\x0c", "\x1b[31m", "\U0001f600")
RAW_TEXT = re.compile(rb"<(title|textarea|plaintext)")  # old versions of html.parser read tags in them
TEMPLATE_CODE = re.compile(
    rb"<%.*?%>|\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}|\{/\*.*?\*/\}|<\?(?:php|=|\s).*?(?:\?>|\Z)", re.DOTALL
)


def page_case(folder: Path) -> Case:
    """Find the images of a page, insert texts, write the page and read it again."""
    site = folder / "site"
    (site / "sub").mkdir(parents=True)
    (folder / "secret.jpg").touch()
    (site / "link").symlink_to(folder)
    (site / "link.jpg").symlink_to(folder / "secret.jpg")
    website = Website(site)

    def case(generator: np.random.Generator) -> None:
        suffix = SUFFIXES[generator.integers(len(SUFFIXES))]
        path = site / f"page{suffix}"
        path.write_bytes(_content(generator))
        page = Page.read(path, website)
        for image in {image for _, image in page.missing}:
            assert Path(os.path.realpath(image)).is_relative_to(site), image
        content = insert_texts(page.content, ((missing, TEXT) for missing, _ in page.missing))
        _check_change(page.content, content, len(page.missing))
        if len(content) > MAX_CHECKED:
            return
        assert TEMPLATE_CODE.findall(content) == TEMPLATE_CODE.findall(page.content)
        _check_parsers(page.content, content, suffix)
        if content != page.content:
            page.write(content)
            assert page.diff(content).startswith(b"--- ")
            again = Page.read(path, website)
            assert again.content == content and again.missing == ()
            assert len(again.undescribed) == len(page.undescribed)

    return case


def _content(generator: np.random.Generator) -> bytes:
    """Return a page, sometimes in a legacy encoding, with random bytes, or of a few megabytes."""
    text = "".join(_piece(generator, depth=0) for _ in range(generator.integers(1, 12)))
    if generator.random() < LARGE_SHARE:
        repeated = _image(generator) if generator.random() < 0.3 else _fragment(generator) + _fragment(generator)
        size = (4_900_000, 5_100_000, 2_000_000, 500_000)[generator.integers(4)]
        text += repeated * (size // len(repeated.encode()))
        text += _piece(generator, depth=0)
    content = text.encode("latin-1", "xmlcharrefreplace") if generator.random() < 0.1 else text.encode()
    if generator.random() < 0.1:
        position = int(generator.integers(len(content) + 1))
        content = content[:position] + generator.bytes(2) + content[position:]
    return content


def _piece(generator: np.random.Generator, depth: int) -> str:
    """Return a fragment, fragments that are repeated, or a piece between fragments."""
    match generator.integers(0, 10):
        case 0 if depth < 4:
            return _fragment(generator) + _piece(generator, depth + 1) + _fragment(generator)
        case 1:
            return (_fragment(generator) + _fragment(generator)) * int(generator.integers(1, 30))
        case 2 | 3 | 4:
            return _image(generator)
    return _fragment(generator)


def _fragment(generator: np.random.Generator) -> str:
    groups = (HTML, HTML, MARKDOWN, MARKDOWN, TEMPLATES, OTHERS)
    group = groups[generator.integers(len(groups))]
    return group[generator.integers(len(group))]


def _image(generator: np.random.Generator) -> str:
    address = ADDRESSES[generator.integers(len(ADDRESSES))]
    inside = _fragment(generator) if generator.random() < 0.3 else ""
    forms = ("<img src='{}'{}>", '<img {1} src="{0}">', "<img src={}{}>", "<img title='{1}' src='{0}'/>")
    forms += ("![]({}{})", "![ ](<{}> '{}')", "![{1}]({0})", "[![]({})]({})")
    return forms[generator.integers(len(forms))].format(address, inside)


def _check_change(before: bytes, after: bytes, count: int) -> None:
    """Check that all changes are insertions into empty images."""
    text = TEXT.encode()
    assert after.count(text) == count
    assert len(re.findall(rb'(?:<img alt="%b"|!\[%b[ \t]*\][(\[])' % (text, text), after, re.IGNORECASE)) == count
    assert after.replace(b' alt="%b"' % text, b"").replace(text, b"") == before


def _check_parsers(before: bytes, after: bytes, suffix: str) -> None:
    """Check that `html.parser`, or a conversion of Markdown to HTML, gives the same result except for the texts."""
    see = _markdown if suffix == ".md" else _html
    if suffix == ".md" or not RAW_TEXT.search(before):
        assert see(after) == see(before)


def _markdown(content: bytes) -> str:
    page = pyromark.html(content.decode("utf-8", "replace"))
    return re.sub(rf' alt="({TEXT})?\s*"', "", page)


def _html(content: bytes) -> list[tuple[str, ...]]:
    parser = _Recorder()
    # html.parser fails on large numbers and on some marks after "<!". Old versions read "<!-->" as an open comment.
    text = TEMPLATE_CODE.sub(b"x", content).decode("utf-8", "replace").replace("1" * 1000, "").replace("<!-->", "")
    with suppress(AssertionError):
        parser.feed(text.replace("--!>", "-->"))
    return parser.parts


class _Recorder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[tuple[str, ...]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.parts.append((tag, *(f"{name}={value}" for name, value in attrs if (name, value) != ("alt", TEXT))))

    def handle_endtag(self, tag: str) -> None:
        self.parts.append(("/", tag))

    def handle_data(self, data: str) -> None:
        self.parts.append(("text", data))

    def handle_comment(self, data: str) -> None:
        self.parts.append(("comment", data))

    def handle_pi(self, data: str) -> None:
        self.parts.append(("instruction", data))

    def unknown_decl(self, data: str) -> None:
        self.parts.append(("declaration", data))
