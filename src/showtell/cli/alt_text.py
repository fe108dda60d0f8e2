"""The command that proposes alt texts for web pages: alt-text."""

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli.caption_options import check_confidence
from showtell.cli.options import Models, fail
from showtell.cli.streams import print_line
from showtell.errors import ConfigurationError, ShowtellError, describe_error
from showtell.utils.files import remove_abandoned_files
from showtell.utils.progress import progress_bar
from showtell.utils.text import plural

if TYPE_CHECKING:
    from showtell.alt_text import Proposal
    from showtell.inference.captioner import Captioner

logger = logging.getLogger(__name__)

MAX_SHOWN = 200  # characters of an image address


def alt_text(
    paths: Annotated[list[Path], typer.Argument(help="HTML and Markdown files, and folders of such files.")],
    write: Annotated[bool, typer.Option("--write", help="Write the texts into the files.")] = False,
    model: Models = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum confidence of a caption to be proposed as alt text.")
    ] = 0.5,
) -> None:
    """Propose alt texts for web pages, and print them as a diff.

    Covers HTML images without an alt attribute, and `![](image.jpg)` in Markdown.
    Decorative images (alt="") and remote images are skipped.
    Image addresses that start with a slash are relative to the given folder, or to the folder of a given file.
    Files outside of it are neither read nor written.
    """
    from showtell.alt_text import propose_texts, read_pages
    from showtell.inference.captioner import Captioner

    captioner = Captioner.load(*model or ())
    _check_threshold(captioner, min_confidence)
    pages, errors = read_pages(paths)
    for error in errors:
        logger.warning("%s", error)
    if not pages:
        fail("no page could be read" if errors else f"no HTML or Markdown files in {', '.join(map(str, paths))}")
    progress: AbstractContextManager[Callable[..., None]]
    has_images = any(page.missing for page in pages)
    progress = progress_bar("captioning") if has_images else nullcontext(lambda done, total: None)
    with progress as advance:
        proposals = propose_texts(captioner, pages, min_confidence, advance)
    if write:
        for folder in {page.file.parent for page in pages}:
            remove_abandoned_files(folder)
    changed, failed = [], len(errors)
    for proposal in proposals:
        _report_undescribed(proposal)
        if proposal.texts:
            if _apply(proposal, write):
                changed.append(proposal)
            else:
                failed += 1
    _summarise(proposals, changed, write)
    if failed or any(image.is_error for proposal in proposals for image in proposal.undescribed):
        raise typer.Exit(1)


def _check_threshold(captioner: "Captioner", min_confidence: float) -> None:
    if captioner.calibration is not None:
        check_confidence(captioner, min_confidence, captioner.search_options)
    elif min_confidence != 0:
        raise ConfigurationError(
            "--min-confidence needs a single bundle with a calibration; add one with `showtell calibrate`, or accept "
            "all captions with --min-confidence 0"
        )


def _print_diff(diff: bytes) -> None:
    """Print a diff: with escaped control characters on a terminal, otherwise unchanged, so that it can be applied."""
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(diff)
        return
    for line in diff.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n"):
        print_line(*line.split("\t"))


def _report_undescribed(proposal: "Proposal") -> None:
    for image in proposal.undescribed:
        level = logging.WARNING if image.is_error else logging.INFO
        source = image.missing.source or "image"
        shown = source if len(source) <= MAX_SHOWN else f"{source[:MAX_SHOWN]}..."
        place = f"{proposal.page.path}:{image.missing.line}: {shown}"
        logger.log(level, "%s: no text proposed: %s", place, image.reason)


def _apply(proposal: "Proposal", write: bool) -> bool:
    """Write the texts of a proposal on request, and print them as a diff. Return False if writing failed."""
    content = proposal.content()
    try:
        if write:
            proposal.page.write(content)
    except (ShowtellError, OSError) as error:
        logger.warning("%s", describe_error(error))
        return False
    _print_diff(proposal.page.diff(content))
    sys.stdout.buffer.flush()
    return True


def _summarise(proposals: "Sequence[Proposal]", changed: "Sequence[Proposal]", write: bool) -> None:
    texts = plural(sum(len(proposal.texts) for proposal in changed), "text")
    files = plural(len(proposals), "file")
    hint = "; use --write to write them" if changed and not write else ""
    logger.info("%s %s in %d of %s%s", "wrote" if write else "proposed", texts, len(changed), files, hint)
    if undescribed := sum(len(proposal.undescribed) for proposal in proposals):
        logger.info("write the text of %s yourself", plural(undescribed, "image"))
