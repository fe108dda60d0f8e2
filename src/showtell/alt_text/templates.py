"""Template code in pages, such as {{ address }}, which the finders of images leave alone."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

MASK = b"\0"  # pages do not contain it

# Opening and closing marks of ERB, ASP and JSP; PHP; Jinja, Django, Liquid, Twig, Handlebars, Vue and Hugo; JSX.
_CLOSING = {b"<%": b"%>", b"<?": b"?>", b"{{": b"}}", b"{%": b"%}", b"{#": b"#}", b"{/*": b"*/}"}
_OPENING = re.compile(rb"<%|<\?(?=php|=|\s)|\{[{%#]|\{/\*")
_CODE = re.compile(rb"[{}\0]")  # with the mask
_QUOTED = re.compile(rb"\"[^\"]*+\"|'[^']*+'")


class Region(NamedTuple):
    """A piece of template code, with its marks.

    Attributes:
        start: position of its first byte.
        end: position after its last byte.
    """

    start: int
    end: int


def find_template_regions(page: bytes) -> Iterator[Region]:
    """Yield the template code of a page. Code of PHP that is not closed extends to the end, as PHP defines it."""
    position = 0
    unclosed: set[bytes] = set()  # marks that are not closed on the rest of the page; without it, time is quadratic
    while match := _OPENING.search(page, position):
        opening, position = match.group(), match.start() + 1
        if opening in unclosed:
            continue
        closing = _CLOSING[opening]
        end = page.find(closing, match.end())
        if end >= 0:
            position = end + len(closing)
        elif opening == b"<?":
            position = len(page)
        else:
            unclosed.add(opening)
            continue
        yield Region(match.start(), position)


def mask(page: bytes, regions: Iterable[Region]) -> bytes:
    """Return the page with every byte of the regions replaced by MASK."""
    masked = bytearray(page)
    for start, end in regions:
        masked[start:end] = MASK * (end - start)
    return bytes(masked)


def has_template_code(attributes: bytes) -> bool:
    """Return whether the attributes of a tag contain masked template code, braces, or another tag."""
    return bool(_CODE.search(attributes)) or (b"<" in attributes and b"<" in _QUOTED.sub(b"", attributes))
