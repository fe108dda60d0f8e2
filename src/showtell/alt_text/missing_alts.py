"""Finding images without alt text in the bytes of a page, and inserting texts.

Parsers report where an image is, and the text is inserted there. All other bytes of the page stay unchanged.
"""

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass

from showtell.alt_text.html_images import find_html_images
from showtell.alt_text.markdown_images import find_markdown_images
from showtell.errors import PageError

HTML_SUFFIXES = frozenset({".html", ".htm", ".xhtml"})
MARKDOWN_SUFFIXES = frozenset({".md", ".markdown"})

_FINDERS = {
    **dict.fromkeys(HTML_SUFFIXES, find_html_images),
    **dict.fromkeys(MARKDOWN_SUFFIXES, find_markdown_images),
}
_MARKDOWN_PUNCTUATION = re.compile(r"([\\`*_\[\]<>&!|~$])")


@dataclass(frozen=True)
class MissingAlt:
    """An image without alt text.

    Attributes:
        source: the address of the image, absolute or relative to the page.
        offset: where to insert the alt text, in bytes from the start of the file.
        line: the line of that offset, from 1.
        is_attribute: whether the alt text becomes an attribute of an <img> tag. Otherwise it is inserted between the
            square brackets of ![](..).
    """

    source: str
    offset: int
    line: int
    is_attribute: bool


def find_missing_alts(content: bytes, suffix: str) -> list[MissingAlt]:
    """Find the images without alt text in the content of an HTML or Markdown file.

    Images with an empty alt="" are skipped as decorative. Images with attributes that name them, or hide them from
    screen readers, are skipped too. Images in comments, scripts, templates and code are ignored.

    Args:
        content: the content of the file.
        suffix: its suffix, which decides between HTML and Markdown.

    Raises:
        PageError: if the suffix is unknown, the encoding is not an extension of ASCII, or the page cannot be parsed.
    """
    if suffix.lower() not in _FINDERS:
        raise PageError(f"not HTML or Markdown; the file name must end in {', '.join(sorted(_FINDERS))}")
    if b"\0" in content:
        raise PageError("not text, or UTF-16; save the file as UTF-8 first")
    encoding = _encoding(content)
    text = content.decode(encoding)
    missing, position, offset = [], 0, 0
    for image in sorted(_FINDERS[suffix.lower()](text)):
        offset += len(text[position : image.position].encode(encoding))
        position = image.position
        missing.append(MissingAlt(image.source, offset, text.count("\n", 0, position) + 1, image.is_attribute))
    return missing


def insert_texts(content: bytes, texts: Iterable[tuple[MissingAlt, str]]) -> bytes:
    """Return the content with alt texts inserted. Blank texts are skipped.

    Args:
        content: the content in which `find_missing_alts` found the images.
        texts: pairs of an image and its text.
    """
    # Characters that a legacy encoding may lack become character references, which both formats support.
    encoding = "utf-8" if _encoding(content) == "utf-8" else "ascii"
    parts, position = [], 0
    for missing, text in sorted(texts, key=lambda pair: pair[0].offset):
        if not (words := " ".join(text.split())):
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
