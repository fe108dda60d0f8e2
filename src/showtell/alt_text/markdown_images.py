"""Images without alt text in Markdown."""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from showtell.alt_text.html_images import IMG_TAG, FoundImage, ImageParser

if TYPE_CHECKING:
    from markdown_it.token import Token

_EMPTY_IMAGE = re.compile(r"!\[(?=[ \t]*\][(\[])")
_FRONT_MATTER = re.compile(r"\ufeff?(---[ \t]*\r?\n(?:[^\n]*\n)*?---[ \t]*\r?(?:\n|\Z))?")


def find_markdown_images(text: str) -> Iterator[FoundImage]:
    """Yield the images without alt text in a Markdown page. Raises PageError.

    A Markdown parser does not report positions. Therefore everything that looks like an image gets a unique mark as its
    alt text. It is an image if the parser finds the mark in the alt text of an image.
    """
    from markdown_it import MarkdownIt

    start = _FRONT_MATTER.match(text).end()  # type: ignore[union-attr]  # also matches an empty string
    candidates = sorted(
        [*IMG_TAG.finditer(text, start), *_EMPTY_IMAGE.finditer(text, start)], key=lambda match: match.start()
    )
    prefix = _unused_prefix(text)
    marked_text, positions = _insert_marks(text, start, candidates, prefix)
    html = []
    for token in _all_tokens(MarkdownIt("commonmark").parse(marked_text)):
        if token.type == "image" and token.content.strip() in positions:
            yield FoundImage(positions[token.content.strip()], str(token.attrs["src"]), False)
        elif token.type in ("html_block", "html_inline"):
            html.append(token.content)
    parser = ImageParser("\n".join(html))
    for _, _, source, names in parser.tags:
        for mark in names:
            if mark in positions:
                yield FoundImage(positions[mark], parser.resolve(source), True)


def _unused_prefix(text: str) -> str:
    prefix = "gap"
    while prefix in text.lower():
        prefix += "p"
    return prefix


def _insert_marks(
    text: str, start: int, candidates: Sequence[re.Match[str]], prefix: str
) -> tuple[str, dict[str, int]]:
    """Return the text from `start` with a mark in every candidate, and the position of each mark in `text`."""
    parts, positions = [], {}
    for number, candidate in enumerate(candidates):
        mark = f"{prefix}{number}x"
        positions[mark] = candidate.end()
        parts.append(text[start : candidate.end()] + (f" {mark}" if candidate.re is IMG_TAG else mark))
        start = candidate.end()
    return "".join([*parts, text[start:]]), positions


def _all_tokens(blocks: Sequence["Token"]) -> Iterator["Token"]:
    for block in blocks:
        yield block
        yield from block.children or ()
