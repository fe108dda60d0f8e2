"""Proposing alt texts for the images of pages."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from showtell.alt_text.missing_alts import MissingAlt, insert_texts
from showtell.alt_text.pages import Page, UndescribedImage
from showtell.alt_text.websites import Website
from showtell.errors import ShowtellError, describe_error
from showtell.inference.caption import CaptionResult

if TYPE_CHECKING:
    from showtell.inference.captioner import Captioner


@dataclass(frozen=True)
class Proposal:
    """The alt texts proposed for a page.

    Attributes:
        page: the page.
        texts: the images with a proposal, each with its text.
        undescribed: the images without a proposal.
    """

    page: Page
    texts: tuple[tuple[MissingAlt, str], ...]
    undescribed: tuple[UndescribedImage, ...]

    def content(self) -> bytes:
        """Return the content of the page with the texts inserted."""
        return insert_texts(self.page.content, self.texts)


def read_pages(paths: Iterable[Path]) -> tuple[list[Page], list[str]]:
    """Read HTML and Markdown files, and return them with the errors of files that cannot be read.

    Args:
        paths: files and folders. The root of the website is the given folder, or the folder of the given file. A file
            that is given twice, such as by a symbolic link, is read once.
    """
    pages: dict[str, Page] = {}
    errors: list[str] = []
    for path in paths:
        website, files = _list_pages(path, errors)
        for file in files:
            if (real := os.path.realpath(file)) in pages:
                continue
            try:
                pages[real] = Page.read(file, website)
            except (ShowtellError, OSError) as error:
                errors.append(describe_error(error))
    return list(pages.values()), errors


def _list_pages(path: Path, errors: list[str]) -> tuple[Website, list[Path]]:
    """Return a website and its pages. Symbolic links come last, so that pages go by their own names."""
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a name is too long
        return Website(path.parent), [path]
    website = Website(path)
    return website, sorted(website.pages(lambda error: errors.append(describe_error(error))), key=os.path.islink)


def propose_texts(
    captioner: "Captioner",
    pages: Sequence[Page],
    min_confidence: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Proposal]:
    """Caption the images of pages, and propose the captions as alt texts.

    Args:
        captioner: the captioner.
        pages: the pages.
        min_confidence: captions with a lower confidence are not proposed.
        progress: called with the number of images done and their total.
    """
    images = list(dict.fromkeys(image for page in pages for _, image in page.missing))
    results: dict[Path, CaptionResult] = {}
    progress(0, len(images))
    for image, result in zip(images, captioner.caption(images) if images else (), strict=True):
        results[image] = result
        progress(len(results), len(images))
    return [_propose(page, results, min_confidence) for page in pages]


def _propose(page: Page, results: dict[Path, CaptionResult], min_confidence: float) -> Proposal:
    texts, undescribed = [], list(page.undescribed)
    for missing, image in page.missing:
        result = results[image]
        if result.error is not None:
            undescribed.append(UndescribedImage(missing, str(result.error), is_error=True))
        elif (confidence := result.captions[0].confidence or 0) < min_confidence:
            reason = f"confidence {confidence:.2f} is below {min_confidence:.2f}"
            undescribed.append(UndescribedImage(missing, reason, is_error=False))
        else:
            texts.append((missing, result.captions[0].text))
    return Proposal(page, tuple(texts), tuple(undescribed))
