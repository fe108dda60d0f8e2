"""Images without alt text in HTML."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import NamedTuple
from urllib.parse import urljoin

from showtell.errors import PageError

IMG_TAG = re.compile(r"<img(?=[\s/>])", re.IGNORECASE)

# The content of these tags is plain text, or a script shows it later. The parser itself handles script and style tags.
_INERT_TAGS = frozenset({"template", "textarea", "title", "iframe", "noembed", "noframes", "xmp", "plaintext"})


class FoundImage(NamedTuple):
    """An image without alt text in the text of a page.

    Attributes:
        position: where to insert the alt text, in characters from the start.
        source: the address of the image.
        is_attribute: whether the alt text becomes an attribute of an <img> tag.
    """

    position: int
    source: str
    is_attribute: bool


class ImageParser(HTMLParser):
    """Collects the <img> tags without alt text.

    Attributes:
        tags: line (from 1), column (from 0), image address and attribute names of each tag.

    Raises:
        PageError: if the text cannot be parsed.
    """

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[int, int, str, tuple[str, ...]]] = []
        self._open_inert_tags: list[str] = []
        self._base = ""
        try:
            self.feed(text)
            self.close()
        except AssertionError as error:  # some versions of the parser raise this on invalid declarations
            raise PageError(f"line {self.getpos()[0]}: invalid HTML ({error})") from None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record an image without alt text, and keep track of inert tags and <base>."""
        attributes = {name: value or "" for name, value in reversed(attrs)}  # of duplicates, the first counts
        if self._open_inert_tags:
            if tag == self._open_inert_tags[0]:
                self._open_inert_tags.append(tag)
        elif tag in _INERT_TAGS:
            self._open_inert_tags.append(tag)
        elif tag == "base" and not self._base:
            self._base = attributes.get("href", "")
        elif tag == "img" and not _is_described(attributes):
            source = attributes.get("src", "").strip() or _first_candidate(attributes.get("srcset", ""))
            if source:
                self.tags.append((*self.getpos(), source, tuple(attributes)))

    def handle_endtag(self, tag: str) -> None:
        """Keep track of inert tags."""
        if self._open_inert_tags and tag == self._open_inert_tags[0]:
            self._open_inert_tags.pop()

    def resolve(self, source: str) -> str:
        """Return an address with the <base> of the page applied."""
        try:
            return urljoin(self._base, source)
        except ValueError:
            return source


def find_html_images(text: str) -> Iterator[FoundImage]:
    """Yield the images without alt text in an HTML page. Raises PageError."""
    line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
    parser = ImageParser(text)
    for line, column, source, _ in parser.tags:
        if tag := IMG_TAG.match(text, line_starts[line - 1] + column):
            yield FoundImage(tag.end(), parser.resolve(source), True)


def _is_described(attributes: dict[str, str]) -> bool:
    return (
        "alt" in attributes
        or attributes.get("role", "").strip().lower() in ("none", "presentation")
        or attributes.get("aria-hidden", "").strip().lower() == "true"
        or any(attributes.get(name, "").strip() for name in ("aria-label", "aria-labelledby"))
    )


def _first_candidate(srcset: str) -> str:
    candidates = srcset.replace(",", " ").split() if not srcset.lstrip().startswith("data:") else []
    return candidates[0] if candidates else ""
