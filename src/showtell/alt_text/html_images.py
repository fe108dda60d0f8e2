"""Images without alt text in HTML."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urljoin

from showtell.alt_text.html_tags import Tag, scan_tags
from showtell.alt_text.templates import find_template_regions, has_template_code, mask

_IMG_TAG = re.compile(rb"<img(?=[\s/>])", re.IGNORECASE)
# Attributes that set the alt text when the page is rendered: Vue, Angular, Alpine, Thymeleaf.
_BOUND_ALT = re.compile(r"[a-z-]*:alt|\[(attr\.)?alt\]|ng-attr-alt|data-th-alt|v-bind|x-bind|th:attr")
_UNKNOWN_BASE = "//{}/"  # makes relative addresses unknown, and leaves absolute ones as they are


class FoundImage(NamedTuple):
    """An image without alt text in the text of a page.

    Attributes:
        position: where to insert the alt text, in bytes from the start.
        source: the address of the image; empty in template code.
        is_attribute: whether the alt text becomes an attribute of an <img> tag.
        is_template: whether it contains template code, or is part of it.
    """

    position: int
    source: str
    is_attribute: bool
    is_template: bool = False


def find_html_images(page: bytes, is_xml: bool = False) -> Iterator[FoundImage]:
    """Yield the images without alt text in an HTML page.

    Args:
        page: the page in UTF-8, without zero bytes.
        is_xml: whether it is XHTML.
    """
    regions = list(find_template_regions(page))
    for region in regions:
        for tag in _IMG_TAG.finditer(page, *region):
            yield FoundImage(tag.end(), "", is_attribute=True, is_template=True)
    yield from find_masked_images(mask(page, regions), is_xml)


def find_masked_images(page: bytes, is_xml: bool = False) -> list[FoundImage]:
    """Return the images without alt text in an HTML page whose template code is masked."""
    base = ""
    images = []
    for tag in _relevant_tags(page, is_xml):
        is_template = has_template_code(tag.raw_attributes)
        if tag.name == b"base":
            base = base or (_UNKNOWN_BASE if is_template else tag.attributes().get("href", ""))
        elif source := _undescribed_source(tag):
            images.append((tag.start + len("<img"), source, is_template))
    return [_resolve(base, *image) for image in images]  # <base> applies to all images, also before it


def _relevant_tags(page: bytes, is_xml: bool) -> Iterator[Tag]:
    """Yield the start tags of images and of <base> outside of <template> elements."""
    templates = 0
    for tag in scan_tags(page, is_xml):
        if tag.name == b"template":
            templates = max(0, templates - 1) if tag.is_end else templates + 1
        elif not templates and not tag.is_end and tag.name in (b"img", b"base"):
            yield tag


def _undescribed_source(tag: Tag) -> str:
    """Return the address of an image without alt text, or nothing."""
    attributes = tag.attributes()
    if _is_described(attributes):
        return ""
    return attributes.get("src", "").strip() or _first_candidate(attributes.get("srcset", ""))


def _resolve(base: str, position: int, source: str, is_template: bool) -> FoundImage:
    with suppress(ValueError):
        source = urljoin(base, source)
    is_template = is_template or source.startswith(_UNKNOWN_BASE)
    return FoundImage(position, "" if is_template else source, is_attribute=True, is_template=is_template)


def _is_described(attributes: dict[str, str]) -> bool:
    return (
        "alt" in attributes
        or attributes.get("role", "").strip().lower() in ("none", "presentation")
        or attributes.get("aria-hidden", "").strip().lower() == "true"
        or any(attributes.get(name, "").strip() for name in ("aria-label", "aria-labelledby"))
        or any(_BOUND_ALT.fullmatch(name) for name in attributes if name != "src")
    )


def _first_candidate(srcset: str) -> str:
    candidates = srcset.replace(",", " ").split() if not srcset.lstrip().startswith("data:") else []
    return candidates[0] if candidates else ""
