"""Finding images without alt text in the bytes of a page, and inserting texts.

Parsers report where an image is, and the text is inserted there. All other bytes of the page stay unchanged.
"""

import html
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from showtell.alt_text.html_images import FoundImage, find_html_images
from showtell.alt_text.markdown_images import find_markdown_images
from showtell.errors import PageError

MAX_PAGE_BYTES = 5_000_000
PAGE_SUFFIXES = frozenset({".html", ".htm", ".xhtml", ".md", ".markdown"})

_FINDERS: dict[str, Callable[[bytes], Iterator[FoundImage]]] = {
    ".html": find_html_images,
    ".htm": find_html_images,
    ".xhtml": partial(find_html_images, is_xml=True),
    ".md": find_markdown_images,
    ".markdown": find_markdown_images,
}
_MARKDOWN_PUNCTUATION = re.compile(r"([\\`*_\[\]<>&!|~$])")


@dataclass(frozen=True)
class MissingAlt:
    """An image without alt text.

    Attributes:
        source: the address of the image, absolute or relative to the page; empty in template code.
        offset: where to insert the alt text, in bytes from the start of the file.
        line: the line of that offset, from 1.
        is_attribute: whether the alt text becomes an attribute of an <img> tag. Otherwise it is inserted between the
            square brackets of ![](..).
        is_template: whether the image contains template code, or is part of it. Its text cannot be inserted.
    """

    source: str
    offset: int
    line: int
    is_attribute: bool
    is_template: bool = False


def find_missing_alts(content: bytes, suffix: str) -> list[MissingAlt]:
    """Find the images without alt text in the content of an HTML or Markdown file.

    Images with an empty alt="" are skipped as decorative. Images with attributes that name them, or hide them from
    screen readers, are skipped too. Images in comments, scripts, <template> elements and code are ignored. Time is
    proportional to the size of the content.

    Args:
        content: the content of the file.
        suffix: its suffix, which decides between HTML and Markdown.

    Raises:
        PageError: if the suffix is unknown, the content is too large, or its encoding is not an extension of ASCII.
    """
    if suffix.lower() not in PAGE_SUFFIXES:
        raise PageError(f"not HTML or Markdown; the file name must end in {', '.join(sorted(PAGE_SUFFIXES))}")
    if len(content) > MAX_PAGE_BYTES:
        raise PageError(f"too large: more than {MAX_PAGE_BYTES // 1_000_000} MB; split the page")
    if b"\0" in content:
        raise PageError("not text, or UTF-16; save the file as UTF-8 first")
    encoding = _encoding(content)
    page = content if encoding == "utf-8" else content.decode(encoding).encode()
    missing, position, offset, line = [], 0, 0, 1
    for image in sorted(_FINDERS[suffix.lower()](page)):
        line += page.count(b"\n", position, image.position)
        if encoding == "utf-8":
            offset = image.position
        else:
            offset += len(page[position : image.position].decode())
        position = image.position
        missing.append(MissingAlt(image.source, offset, line, image.is_attribute, image.is_template))
    return missing


def insert_texts(content: bytes, texts: Iterable[tuple[MissingAlt, str]]) -> bytes:
    """Return the content with alt texts inserted. Blank texts and images in template code are skipped.

    Args:
        content: the content in which `find_missing_alts` found the images.
        texts: pairs of an image and its text.
    """
    # Characters that a legacy encoding may lack become character references, which both formats support.
    encoding = "utf-8" if _encoding(content) == "utf-8" else "ascii"
    parts, position = [], 0
    for missing, text in sorted(texts, key=lambda pair: pair[0].offset):
        if missing.is_template or not (words := " ".join(text.split())):
            continue
        inserted = f' alt="{html.escape(words)}"' if missing.is_attribute else _MARKDOWN_PUNCTUATION.sub(r"\\\1", words)
        parts += [content[position : missing.offset], inserted.encode(encoding, "xmlcharrefreplace")]
        position = missing.offset
    return b"".join([*parts, content[position:]])


def _encoding(content: bytes) -> str:
    # Latin-1 maps every byte to a character, so other encodings that extend ASCII survive decoding and encoding.
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"
