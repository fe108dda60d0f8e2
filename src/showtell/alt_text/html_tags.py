"""The tags of an HTML page, with their positions.

Follows the tokenizer of the HTML standard (https://html.spec.whatwg.org/multipage/parsing.html#tokenization) in time
proportional to the size of the page. What is not closed, such as a comment or a quoted value, extends to the end of
the page. `html.parser` is not used, because its time is quadratic on such pages.
"""

import html
import re
from collections.abc import Iterator
from typing import NamedTuple

# Longer values are returned without resolving character references. No address of a file is as long.
MAX_UNESCAPED = 4096

_ATTRIBUTE = rb"""
    (?P<name> [^\t\n\f\r />] [^\t\n\f\r />=]*+ )
    (?: [\t\n\f\r ]*+ = [\t\n\f\r ]*+ (?P<value>
        "[^"]*+ (?: "|\Z ) | '[^']*+ (?: '|\Z ) | [^\t\n\f\r >"'] [^\t\n\f\r >]*+ | (?= >|\Z )
    ) )?+
"""
_UNNAMED_ATTRIBUTE = _ATTRIBUTE.replace(b"?P<name>", b"?:").replace(b"?P<value>", b"?:")
_MARKUP = rb"""
    <(?:
        !-- (?: -?> | .*? (?: --!?> | \Z ) )             # comment
        | !\[CDATA\[ .*? (?: \]\]> | \Z )
        | (?: [!?] | /(?![a-zA-Z]) ) [^>]*+              # declaration and other markup that is read as a comment
        | (?P<slash> /?+ ) (?P<name> [a-zA-Z] [^\t\n\f\r />]*+ )
          (?P<attributes> (?: [\t\n\f\r /]++ | ATTRIBUTE )*+ ) (?P<end> > | \Z )
    )
""".replace(b"ATTRIBUTE", _UNNAMED_ATTRIBUTE)


def _compile(pattern: bytes) -> re.Pattern[bytes]:
    # In verbose patterns, only spaces within a character class count.
    return re.compile(pattern, re.VERBOSE | re.DOTALL)


_MARKUP_PATTERN, _ATTRIBUTE_PATTERN = _compile(_MARKUP), _compile(_ATTRIBUTE)

# Elements whose content is text up to their end tag.
_RAW_TEXT = {
    name: re.compile(rb"</%b(?=[\t\n\f\r />])" % name, re.IGNORECASE)
    for name in (b"style", b"textarea", b"title", b"iframe", b"noembed", b"noframes", b"xmp")
}
_RAW_TEXT[b"plaintext"] = re.compile(rb"\Z")
_SCRIPT = re.compile(rb"<!--(?!-*+>)|-->|</?script(?=[\t\n\f\r />])", re.IGNORECASE)


class Tag(NamedTuple):
    """A start tag or an end tag.

    Attributes:
        name: the name in lower case.
        is_end: whether it is an end tag.
        start: the position of its "<", in bytes.
        end: the position after its ">".
        raw_attributes: the bytes between the name and ">".
    """

    name: bytes
    is_end: bool
    start: int
    end: int
    raw_attributes: bytes

    def attributes(self) -> dict[str, str]:
        """Return names in lower case and values. Of duplicates, the first counts."""
        attributes: dict[str, str] = {}
        for match in _ATTRIBUTE_PATTERN.finditer(self.raw_attributes):
            attributes.setdefault(match["name"].lower().decode(), _unquote(match["value"] or b""))
        return attributes


def scan_tags(page: bytes, is_xml: bool = False) -> Iterator[Tag]:
    """Yield the tags of a page in order. Comments and the content of scripts, styles and the like have no tags.

    Args:
        page: the page in UTF-8.
        is_xml: whether "/>" closes an element such as a script, as in XHTML.
    """
    position = 0
    while match := _MARKUP_PATTERN.search(page, position):
        position = match.end()
        if not match["end"]:  # no tag, or not closed
            continue
        tag = Tag(match["name"].lower(), bool(match["slash"]), match.start(), position, match["attributes"])
        yield tag
        if not (tag.is_end or (is_xml and tag.raw_attributes.endswith(b"/"))):
            position = _end_of_text(page, tag.name, position)


def _end_of_text(page: bytes, name: bytes, position: int) -> int:
    """Return the position of the end tag if the content of the element is text; otherwise `position`."""
    if name == b"script":
        return _end_of_script(page, position)
    if name in _RAW_TEXT:
        match = _RAW_TEXT[name].search(page, position)
        return match.start() if match else len(page)
    return position


def _end_of_script(page: bytes, position: int) -> int:
    """Return the position of the end tag of a script. Within <!-- -->, a script may contain <script> and </script>."""
    is_comment = is_nested = False
    for match in _SCRIPT.finditer(page, position):
        match match.group().lower():
            case b"<!--":
                is_comment = True
            case b"-->":
                is_comment = is_nested = False
            case b"<script":
                is_nested = is_comment
            case _ if is_nested:
                is_nested = False
            case _:
                return match.start()
    return len(page)


def _unquote(value: bytes) -> str:
    if value[:1] in (b'"', b"'"):
        value = value[1:-1]
    text = value.decode(errors="replace")
    return html.unescape(text) if len(text) <= MAX_UNESCAPED else text
