"""The command that gives the images of web pages a text: alt-text."""

import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli.captioning import check_confidence
from showtell.cli.options import Models, fail, printable, reason, say
from showtell.errors import CaptionFileError, ConfigurationError, ShowtellError
from showtell.utils.progress import progress_bar

if TYPE_CHECKING:
    from showtell.alt_text.pages import MissingAlt


@dataclass(frozen=True)
class _Page:
    """A file with the images in it that have no text, but files."""

    path: Path
    content: bytes
    gaps: "list[tuple[MissingAlt, Path]]"


def alt_text(
    paths: Annotated[list[Path], typer.Argument(help="Folders of HTML and Markdown files, sites; or such files.")],
    write: Annotated[bool, typer.Option("--write", help="Write the texts into the files.")] = False,
    model: Models = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Leave images to a person whose caption has less confidence.")
    ] = 0.5,
) -> None:
    """Propose texts for the images of web pages that have none, as a diff on standard output.

    Images without an alt attribute in HTML, and ![](image.jpg) in Markdown. Decorative images (alt="") and remote ones
    are left alone. An address that begins with a slash is looked for in the folder given.
    """
    from showtell.alt_text.pages import insert_texts, unified_diff
    from showtell.inference.captioner import Captioner

    captioner = Captioner.load(*model or ())
    if captioner.calibration is not None:
        check_confidence(captioner, min_confidence, captioner.search_options)
    elif min_confidence != 0:
        raise ConfigurationError(
            "only one bundle with a calibration (showtell calibrate) tells which captions to trust; "
            "--min-confidence 0 proposes all of them"
        )
    pages, unusable = _read(paths)
    if not pages:
        fail("no page could be read" if unusable else f"no HTML or Markdown files in {', '.join(map(str, paths))}")
    failed = doubtful = changed = proposed = 0
    wanted = list(dict.fromkeys(image for page in pages for _, image in page.gaps))
    captions = {}
    if wanted:
        with progress_bar("captioning") as advance:
            advance(0, len(wanted))
            for result in captioner.caption(wanted):
                captions[result.source] = result
                advance(len(captions), len(wanted))
    for page in pages:
        texts = []
        for gap, image in page.gaps:
            place = f"{printable(str(page.path))}:{gap.line}: {printable(gap.source)}"
            result = captions[image]
            if result.error is not None:
                failed += 1
                say(f"{place}: needs a text by a person: {result.error}")
            elif (confidence := result.captions[0].confidence or 0) < min_confidence:
                doubtful += 1
                say(f"{place}: needs a text by a person: the confidence of its caption is {confidence:.2f}")
            else:
                texts.append((gap, result.captions[0].text))
        if not texts:
            continue
        after = insert_texts(page.content, texts)
        try:
            if write:
                _replace(page, after)
        except (ShowtellError, OSError) as error:
            unusable += 1
            say(f"showtell: {reason(error)}")
            continue
        changed += 1
        proposed += len(texts)
        sys.stdout.buffer.write(unified_diff(page.path, page.content, after))
        sys.stdout.buffer.flush()
    say(
        f"showtell: texts {'written' if write else 'proposed'}: {proposed}, in {changed} of {len(pages)} files"
        f"{'; --write writes them' if proposed and not write else ''}"
    )
    if failed or doubtful:
        say(f"showtell: images that need a text by a person: {failed + doubtful}")
    if failed or unusable:
        raise typer.Exit(1)


def _read(paths: Iterable[Path]) -> tuple[list[_Page], int]:
    """Return the pages in folders, and how many could not be read."""
    from showtell.alt_text.pages import HTML_SUFFIXES, MARKDOWN_SUFFIXES, find_missing_alts, local_path
    from showtell.images import find_images

    pages: dict[Path, _Page] = {}
    unusable = 0
    for root in paths:
        site = root if root.is_dir() else root.parent
        for path in find_images([root], suffixes=HTML_SUFFIXES | MARKDOWN_SUFFIXES):
            try:
                content = path.read_bytes()
                gaps = [(gap, local_path(gap.source, path, site)) for gap in find_missing_alts(content, path.suffix)]
                pages[path] = _Page(path, content, [(gap, image) for gap, image in gaps if image])
            except (ShowtellError, OSError) as error:
                unusable += 1
                why = error.strerror if isinstance(error, OSError) else error
                say(f"showtell: {printable(str(path))}: {why}")
    return list(pages.values()), unusable


def _replace(page: _Page, content: bytes) -> None:
    """Write a page whole, with the rights that it has; where it is a link, the file that it leads to."""
    from showtell.utils.files import atomic_write

    file = page.path.resolve()
    if file.read_bytes() != page.content:
        raise CaptionFileError(f"{page.path}: it has changed meanwhile; give the command again")
    with atomic_write(file) as temporary:
        temporary.write_bytes(content)
        shutil.copymode(file, temporary)
