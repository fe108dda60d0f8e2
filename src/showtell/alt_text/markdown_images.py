"""Images without alt text in Markdown."""

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import pyromark

from showtell.alt_text.html_images import FoundImage, find_masked_images
from showtell.alt_text.templates import MASK, Region, find_images_in, find_template_regions, has_template_code, mask

_PARTS = frozenset({"Image", "Code", "CodeBlock", "Html", "InlineHtml"})
_MARKDOWN_CODE = frozenset(b"\r\n`~")
_EMPTY_IMAGE = re.compile(rb"!\[(?=[ \t]*+\][(\[])")
_FRONT_MATTER = re.compile(rb"(?:\xef\xbb\xbf)?(?:---[ \t]*+\r?\n(?:[^\n]*+\n)*?---[ \t]*+\r?(?:\n|\Z))?")


def find_markdown_images(page: bytes) -> Iterator[FoundImage]:
    """Yield the images without alt text in a Markdown page.

    Args:
        page: the page in UTF-8, without zero bytes.
    """
    offset = _FRONT_MATTER.match(page).end()  # type: ignore[union-attr]  # also matches nothing
    for image in _find_images(page[offset:]):
        yield image._replace(position=image.position + offset)


def _find_images(page: bytes) -> Iterator[FoundImage]:
    regions = list(find_template_regions(page))
    masked = mask(page, regions)
    html, visible = bytearray(b" ") * len(page), bytearray(page)
    for event, start, end in _parse(_maskable(page, regions)):
        if "Image" in event:
            visible[start:end] = b" " * (end - start)
            if _EMPTY_IMAGE.match(page, start):
                yield _image(start, event["Image"]["dest_url"], masked[start:end])
        elif "Code" in event or "CodeBlock" in event:
            visible[start:end] = b" " * (end - start)
        else:
            (content,) = event.values()
            html[start:end] = _without_prefixes(masked[start:end], content)
    yield from find_masked_images(bytes(html))
    for position in find_images_in(bytes(visible), regions):
        yield FoundImage(position, "", is_attribute=True, is_template=True)


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


def _maskable(page: bytes, regions: Sequence[Region]) -> bytes:
    """Return the page with template code replaced by letters, because an address may contain any code.

    Code with line breaks or backticks is kept. Its marks may be unrelated, in different pieces of Markdown code.
    """
    return mask(page, (region for region in regions if _MARKDOWN_CODE.isdisjoint(page[slice(*region)])), b"x")


def _image(start: int, address: str, masked: bytes) -> FoundImage:
    is_template = MASK in masked or has_template_code(address.encode())
    return FoundImage(start + len("!["), "" if is_template else address, False, is_template)


def _without_prefixes(source: bytes, html: str) -> bytes:
    """Return the source of HTML with spaces for what does not belong to it, such as the ">" of a quote."""
    lines = []
    for line, content in zip_longest(source.splitlines(keepends=True), html.encode().splitlines(), fillvalue=b""):
        prefix = max(0, len(line.rstrip(b"\r\n")) - len(content))
        lines.append(b" " * prefix + line[prefix:])
    return b"".join(lines)
