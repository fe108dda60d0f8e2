"""Images without alt text in Markdown."""

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import pyromark

from showtell.alt_text.html_images import FoundImage, find_masked_images
from showtell.alt_text.templates import MASK, Region, find_template_regions, has_template_code, mask

_PARTS = frozenset({"Image", "Code", "CodeBlock", "Html", "InlineHtml"})
_EMPTY_IMAGE = re.compile(rb"!\[(?=[ \t]*+\][(\[])")
_IMAGE = re.compile(rb"(<img)(?=[\s/>])|(!\[)(?=[ \t]*+\][(\[])", re.IGNORECASE)
_IMAGE_WITH_CODE = re.compile(rb"(<img)(?=[\s/])(?![^<>]*\balt\b)[^<>\0]*+\0|(!\[)[ \t]*+\]\([ \t<]*+\0", re.IGNORECASE)
_FRONT_MATTER = re.compile(rb"(?:\xef\xbb\xbf)?(?:---[ \t]*+\r?\n(?:[^\n]*+\n)*?---[ \t]*+\r?(?:\n|\Z))?")


def find_markdown_images(page: bytes) -> Iterator[FoundImage]:
    """Yield the images without alt text in a Markdown page.

    Args:
        page: the page in UTF-8, without zero bytes.
    """
    front_matter = _FRONT_MATTER.match(page).end()  # type: ignore[union-attr]  # also matches nothing
    page = b"\n" * front_matter + page[front_matter:]
    regions = list(find_template_regions(page))
    masked = mask(page, regions)
    html, text = bytearray(b" ") * len(page), bytearray(page)  # the HTML, and what is neither HTML, code nor image
    for event, start, end in _parse(page):
        text[start:end] = b" " * (end - start)
        if "Image" in event:
            if _EMPTY_IMAGE.match(page, start):
                yield _image(start, event["Image"]["dest_url"], masked[start:end])
        elif "Html" in event or "InlineHtml" in event:
            (content,) = event.values()
            html[start:end] = _without_prefixes(masked[start:end], content.encode())
            text[start:end] = _template_code(page[start:end], masked[start:end])
    yield from find_masked_images(bytes(html))
    yield from _template_images(bytes(text), regions)


def _parse(page: bytes) -> Iterator[tuple[dict[str, Any], int, int]]:
    """Yield images, code and HTML, each with its first byte and the byte after its last one.

    The content of images is left out. It is their alt text, whatever it contains.
    """
    event: Any  # a string, or a dictionary with one key
    end = 0
    for event, span in pyromark.events_with_range(page.decode(), merge_text=True):
        if "Start" in event:
            event = event["Start"]
        if isinstance(event, dict) and not _PARTS.isdisjoint(event) and span["start"] >= end:
            yield event, span["start"], span["end"]
            if "Image" in event:
                end = span["end"]


def _image(start: int, address: str, masked: bytes) -> FoundImage:
    is_template = MASK in masked or has_template_code(address.encode())
    return FoundImage(start + len("!["), "" if is_template else address, False, is_template)


def _template_images(text: bytes, regions: Sequence[Region]) -> Iterator[FoundImage]:
    """Yield what looks like an image in template code, or is no image of Markdown because it contains such code."""
    within = [match for region in regions for match in _IMAGE.finditer(text, *region)]
    for match in (*within, *_IMAGE_WITH_CODE.finditer(mask(text, regions))):
        is_attribute = match[1] is not None
        yield FoundImage(match.end(1 if is_attribute else 2), "", is_attribute, is_template=True)


def _template_code(content: bytes, masked: bytes) -> bytes:
    """Return the content with spaces for everything but template code."""
    if MASK not in masked:
        return b" " * len(content)
    return bytes(byte if mark == MASK[0] else ord(" ") for byte, mark in zip(content, masked, strict=True))


def _without_prefixes(source: bytes, html: bytes) -> bytes:
    """Return the source of HTML with spaces for what does not belong to it, such as the ">" of a quote."""
    if len(source) == len(html):
        return source
    lines = []
    for line, content in zip_longest(source.splitlines(keepends=True), html.splitlines(), fillvalue=b""):
        prefix = max(0, len(line.rstrip(b"\r\n")) - len(content))
        lines.append(b" " * prefix + line[prefix:])
    return b"".join(lines)
