"""Images without a text in HTML and Markdown: finding them, and putting a text in.

All works on the bytes of a file, and nothing but the text that is put in changes: parsers tell where an image is, and
the text is spliced in there.
"""

import difflib
import html
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from showtell.errors import CaptionFileError

HTML_SUFFIXES = frozenset({".html", ".htm", ".xhtml"})
MARKDOWN_SUFFIXES = frozenset({".md", ".markdown"})

# What is in these is text, or waits for a script to fill it; the parser itself knows script and style.
_NO_PART_OF_THE_PAGE = frozenset({"template", "textarea", "title", "iframe", "noembed", "noframes", "xmp", "plaintext"})
_TAG = re.compile(r"<img(?=[\s/>])", re.IGNORECASE)
_MARKDOWN_IMAGE = re.compile(r"!\[(?=[ \t]*\][(\[])")
_FRONT_MATTER = re.compile(r"\ufeff?(---[ \t]*\r?\n(?:[^\n]*\n)*?---[ \t]*\r?(?:\n|\Z))?")
_MARKDOWN_PUNCTUATION = re.compile(r"([\\`*_\[\]<>&!|~$])")


@dataclass(frozen=True)
class MissingAlt:
    """An image without a text.

    Attributes:
        source: the address of the image, relative to the page or not.
        place: where its text goes, in bytes from the beginning of the file.
        line: the line of that place, from 1.
        in_tag: whether the text becomes an attribute of an <img>, or goes between the brackets of ![](..).
    """

    source: str
    place: int
    line: int
    in_tag: bool


def find_missing_alts(content: bytes, suffix: str) -> list[MissingAlt]:
    """Find the images without a text in the content of a file, by its suffix HTML or Markdown.

    An empty alt="", and what hides an image from screen readers or names it for them, is taken for meant. Images in
    comments, scripts, templates and code are none.

    Raises:
        CaptionFileError: if the suffix is of neither, or the content is no text in an encoding that extends ASCII.
    """
    kinds = {**dict.fromkeys(HTML_SUFFIXES, _html_images), **dict.fromkeys(MARKDOWN_SUFFIXES, _markdown_images)}
    if suffix.lower() not in kinds:
        raise CaptionFileError(f"not HTML or Markdown by its name; it must end in {', '.join(sorted(kinds))}")
    if b"\0" in content:
        raise CaptionFileError("not text, or UTF-16; save it as UTF-8 first")
    encoding = _encoding(content)
    text = content.decode(encoding)
    gaps, read, size = [], 0, 0
    for place, source, in_tag in sorted(kinds[suffix.lower()](text)):
        size += len(text[read:place].encode(encoding))
        read = place
        gaps.append(MissingAlt(source, size, text.count("\n", 0, place) + 1, in_tag))
    return gaps


def insert_texts(content: bytes, texts: Iterable[tuple[MissingAlt, str]]) -> bytes:
    """Return the content with texts put into gaps that `find_gaps` found in it; texts of blanks are left out."""
    # What a legacy encoding lacks becomes a character reference, which HTML and Markdown read in any encoding.
    encoding = "utf-8" if _encoding(content) == "utf-8" else "ascii"
    parts, read = [], 0
    for gap, text in sorted(texts, key=lambda item: item[0].place):
        if not (words := " ".join(text.split())):
            continue
        put_in = f' alt="{html.escape(words)}"' if gap.in_tag else _MARKDOWN_PUNCTUATION.sub(r"\\\1", words)
        parts += [content[read : gap.place], put_in.encode(encoding, "xmlcharrefreplace")]
        read = gap.place
    return b"".join([*parts, content[read:]])


def local_path(source: str, page: Path, root: Path) -> Path | None:
    """Return the file that an address in a page names; None if it is remote, or in the page itself (data:).

    Args:
        source: the address.
        page: the file that it is in.
        root: the folder of the whole site, where addresses begin that start with a slash.
    """
    try:
        address = urlsplit(source.strip())
    except ValueError:
        return None
    if address.scheme or address.netloc or not address.path:
        return None
    path = os.fsdecode(unquote_to_bytes(address.path))
    return root / path.lstrip("/") if path.startswith("/") else page.parent / path


def unified_diff(page: Path, before: bytes, after: bytes) -> bytes:
    """Return the change of a page as `git apply` and `patch -p1` read it."""
    name = os.fsencode(page.as_posix().lstrip("/"))
    # Those who apply it know no other end of a line than a line feed.
    old, new = (re.findall(rb"[^\n]*\n|[^\n]+", content) for content in (before, after))
    changes = difflib.diff_bytes(difflib.unified_diff, old, new, b"a/" + name, b"b/" + name)
    return b"".join(line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n" for line in changes)


def _encoding(content: bytes) -> str:
    # Every byte is a character in Latin-1, so that any other encoding that extends ASCII passes through it unharmed.
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


class _Images(HTMLParser):
    """Finds the images without a text: (line from 1, column from 0, address, names of attributes) of each tag."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[int, int, str, tuple[str, ...]]] = []
        self._inside: list[str] = []
        self._base = ""
        try:
            self.feed(text)
            self.close()
        except AssertionError as error:  # how some versions of it say that a declaration makes no sense
            raise CaptionFileError(f"line {self.getpos()[0]}: not HTML that can be understood ({error})") from None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in reversed(attrs)}  # the first of a name counts
        if self._inside:
            if tag == self._inside[0]:
                self._inside.append(tag)
        elif tag in _NO_PART_OF_THE_PAGE:
            self._inside.append(tag)
        elif tag == "base" and not self._base:
            self._base = attributes.get("href", "")
        elif tag == "img" and not _has_text(attributes):
            source = attributes.get("src", "").strip() or _first_of(attributes.get("srcset", ""))
            if source:
                self.found.append((*self.getpos(), source, tuple(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if self._inside and tag == self._inside[0]:
            self._inside.pop()

    def address(self, source: str) -> str:
        """Return an address of the page with its <base> applied."""
        try:
            return urljoin(self._base, source)
        except ValueError:
            return source


def _has_text(attributes: dict[str, str]) -> bool:
    return (
        "alt" in attributes
        or attributes.get("role", "").strip().lower() in ("none", "presentation")
        or attributes.get("aria-hidden", "").strip().lower() == "true"
        or any(attributes.get(name, "").strip() for name in ("aria-label", "aria-labelledby"))
    )


def _first_of(srcset: str) -> str:
    candidates = srcset.replace(",", " ").split() if not srcset.lstrip().startswith("data:") else []
    return candidates[0] if candidates else ""


def _html_images(text: str) -> Iterator[tuple[int, str, bool]]:
    """Yield (place of the text, address, True) of images without a text."""
    lines = [0, *(match.end() for match in re.finditer("\n", text))]
    images = _Images(text)
    for line, column, source, _ in images.found:
        place = lines[line - 1] + column
        if tag := _TAG.match(text, place):
            yield tag.end(), images.address(source), True


def _markdown_images(text: str) -> Iterator[tuple[int, str, bool]]:
    """Yield (place of the text, address, whether in a tag) of images without a text.

    A Markdown parser does not tell where an image is. So everything that looks like one is given a mark for its text,
    and those whose mark the parser finds in the text of an image are.
    """
    from markdown_it import MarkdownIt

    start = _FRONT_MATTER.match(text).end()  # type: ignore[union-attr]  # it matches nothing at all, too
    mark = "gap"
    while mark in text.lower():
        mark += "p"
    places = [
        (match.end(), match.re is _TAG)
        for match in sorted(
            [*_TAG.finditer(text, start), *_MARKDOWN_IMAGE.finditer(text, start)], key=lambda match: match.start()
        )
    ]
    pieces, read = [], start
    for number, (place, in_tag) in enumerate(places):
        pieces.append(text[read:place] + (f" {mark}{number}x" if in_tag else f"{mark}{number}x"))
        read = place
    tokens = MarkdownIt("commonmark").parse("".join([*pieces, text[read:]]))
    marked = {f"{mark}{number}x": place for number, (place, _) in enumerate(places)}
    raw = []
    for token in (each for block in tokens for each in (block, *(block.children or ()))):
        if token.type == "image" and token.content.strip() in marked:
            yield marked[token.content.strip()], str(token.attrs["src"]), False
        elif token.type in ("html_block", "html_inline"):
            raw.append(token.content)
    images = _Images("\n".join(raw))
    for _, _, source, names in images.found:
        for name in names:
            if name in marked:
                yield marked[name], images.address(source), True
