"""Captions as pictures: a title above one image, or a sheet of many with captions under each."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from showtell.drawing.fonts import Fonts
from showtell.errors import ConfigurationError

INK, FAINT_INK = "#1f2328", "#656d76"
PAPER = "white"

MIN_WIDTH, MAX_SIDE = 480, 1280
SHEET_WIDTH = 1280
MIN_CELL, MAX_CELL = 224, 480


def draw_title(image: Image.Image, caption: str, fonts: Fonts | None = None) -> Image.Image:
    """Return an image with its caption as a title above it, wrapped to the width.

    Args:
        image: an RGB image. It is scaled to a width of at least MIN_WIDTH pixels, with its aspect ratio, but no side
            becomes longer than MAX_SIDE.
        caption: the title; whitespace is collapsed.
        fonts: the fonts to choose from.
    """
    scale = min(max(1.0, MIN_WIDTH / image.width), MAX_SIDE / max(image.size))
    picture = scaled(image, scale)
    width = max(MIN_WIDTH, picture.width)
    return stack_title(Text(caption, font_size=width // 24, width=round(0.94 * width), fonts=fonts), picture, width)


def contact_sheet(images: Sequence[Image.Image], captions: Sequence[str], fonts: Fonts | None = None) -> Image.Image:
    """Return a grid of thumbnails, each with its caption below it.

    Thumbnails keep their aspect ratio and fit into cells of one size, whose aspect ratio is the median of the images.
    The grid is wider than high. Cells are as large as a sheet of SHEET_WIDTH pixels allows, between MIN_CELL and
    MAX_CELL pixels wide.

    Args:
        images: N RGB images, N at least 1, shown in reading order.
        captions: N captions.
        fonts: the fonts to choose from.

    Raises:
        ConfigurationError: if there are no images, or a different number of captions.
    """
    if not images or len(images) != len(captions):
        raise ConfigurationError(
            f"a contact sheet needs at least one image and one caption per image, not {len(images)} images and "
            f"{len(captions)} captions"
        )
    rows = math.ceil(len(images) / math.ceil(math.sqrt(1.5 * len(images))))
    columns = math.ceil(len(images) / rows)
    width = min(max(SHEET_WIDTH // columns, MIN_CELL), MAX_CELL)
    texts = [[Text(caption, font_size=max(14, width // 20), width=width, fonts=fonts)] for caption in captions]
    pictures, cell = thumbnails(images, width)
    return grid(pictures, texts, columns, cell, _gutter(width))


@dataclass(frozen=True)
class Panel:
    """An image with its caption and further remarks, each a paragraph of its own."""

    image: Image.Image
    caption: str
    remarks: Sequence[str] = ()


def panel_sheet(groups: Mapping[str, Sequence[Panel]], fonts: Fonts | None = None) -> Image.Image:
    """Return a sheet with a heading and a row of panels per group; caption and remarks are below each image.

    Raises:
        ConfigurationError: if there are no groups, or a group has no panels.
    """
    if not groups or not all(groups.values()):
        raise ConfigurationError("a panel sheet needs at least one group, and every group at least one panel")
    columns = max(map(len, groups.values()))
    width = min(max(SHEET_WIDTH // columns, MIN_CELL), MAX_CELL)
    parts = []
    for heading, panels in groups.items():
        texts = [
            [
                Text(panel.caption, font_size=max(14, width // 18), width=width, fonts=fonts),
                *(Text(remark, max(12, width // 22), width, FAINT_INK, fonts) for remark in panel.remarks),
            ]
            for panel in panels
        ]
        pictures, cell = thumbnails([panel.image for panel in panels], width)
        parts.append((Text(heading, 24, width, fonts=fonts), grid(pictures, texts, len(panels), cell, _gutter(width))))
    size = max(row.width for _, row in parts), sum(title.height + row.height for title, row in parts) + 24
    sheet = Image.new("RGB", size, PAPER)
    top = 24
    for title, row in parts:
        title.draw(sheet, center=sheet.width // 2, top=top)
        sheet.paste(row, ((sheet.width - row.width) // 2, top + title.height))
        top += title.height + row.height
    return sheet


def stack_title(title: "Text", picture: Image.Image, width: int) -> Image.Image:
    """Return a canvas of the given width with a title above the image."""
    band = title.height + title.line_height  # half a line of padding above and below
    canvas = Image.new("RGB", (width, band + picture.height), PAPER)
    title.draw(canvas, center=width // 2, top=title.line_height // 2)
    canvas.paste(picture, ((width - picture.width) // 2, band))
    return canvas


def _gutter(width: int) -> int:
    return max(24, width // 12)


def thumbnails(images: Sequence[Image.Image], width: int) -> tuple[list[Image.Image], tuple[int, int]]:
    """Return the images scaled to fit a common cell, and the size of the cell (width, height).

    The aspect ratio of the cell is the median of the images, between 3:4 and 3:2.
    """
    median = sorted(image.width / image.height for image in images)[len(images) // 2]
    height = round(width / min(max(median, 0.75), 1.5))
    return [scaled(image, min(width / image.width, height / image.height)) for image in images], (width, height)


def grid(
    pictures: Sequence[Image.Image], texts: Sequence[Sequence["Text"]], columns: int, cell: tuple[int, int], gutter: int
) -> Image.Image:
    """Return a sheet of images in reading order, each in a cell (width, height) with its texts below it."""
    width, height = cell
    above = gutter // 3  # between an image and its text, and between texts
    heights = [sum(above + text.height for text in paragraphs) for paragraphs in texts]
    row_heights = [height + max(heights[first : first + columns]) for first in range(0, len(texts), columns)]
    size = (columns * (width + gutter) + gutter, sum(row_heights) + (len(row_heights) + 1) * gutter)
    sheet = Image.new("RGB", size, PAPER)
    for index, (picture, paragraphs) in enumerate(zip(pictures, texts, strict=True)):
        row, column = divmod(index, columns)
        left = gutter + column * (width + gutter)
        bottom = sum(row_heights[:row]) + (row + 1) * gutter + height
        sheet.paste(picture, (left + (width - picture.width) // 2, bottom - picture.height))
        for text in paragraphs:
            text.draw(sheet, center=left + width // 2, top=bottom + above)
            bottom += above + text.height
    return sheet


class Text:
    """Text in centred lines of similar length, none wider than `width` pixels."""

    def __init__(self, text: str, font_size: int, width: int, ink: str = INK, fonts: Fonts | None = None):
        self.ink = ink
        self.font = (fonts or Fonts()).of(text, font_size)
        self.line_height = round(1.35 * font_size)
        words = text.split()
        self.lines = self._wrapped(words, width)
        # The narrowest width with the same number of lines and no more broken words balances the lines.
        lengths = (math.ceil(self.font.getlength(word)) for word in words)
        longest = max((length for length in lengths if length <= width), default=0)
        for narrower in range(max(width // 2, longest), width, max(1, width // 40)):
            lines = self._wrapped(words, narrower)
            if len(lines) == len(self.lines):
                self.lines = lines
                break

    @property
    def height(self) -> int:
        """Height in pixels, from the top of the first line to the bottom of the last."""
        return len(self.lines) * self.line_height

    def _wrapped(self, words: Iterable[str], width: int) -> list[str]:
        lines: list[str] = []
        for word in words:
            if lines and self.font.getlength(f"{lines[-1]} {word}") <= width:
                lines[-1] += f" {word}"
            else:
                lines += self._broken(word, width)
        return lines

    def _broken(self, word: str, width: int) -> Iterator[str]:
        start = 0
        for end in range(2, len(word) + 1):
            if self.font.getlength(word[start:end]) > width:
                yield word[start : end - 1]
                start = end - 1
        yield word[start:]

    def draw(self, canvas: Image.Image, center: int, top: int) -> None:
        """Draw the lines, centred horizontally at `center`, the first one below `top`."""
        pen = ImageDraw.Draw(canvas)
        for number, line in enumerate(self.lines):
            pen.text(
                (center, top + (number + 0.75) * self.line_height), line, fill=self.ink, font=self.font, anchor="ms"
            )


def scaled(image: Image.Image, scale: float) -> Image.Image:
    """Return the image with both sides multiplied by `scale`."""
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)
