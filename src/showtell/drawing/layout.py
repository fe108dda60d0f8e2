"""Arranging images and texts on a white sheet."""

from collections.abc import Sequence

from PIL import Image

from showtell.drawing.text import Text

PAPER = "white"


def scale_image(image: Image.Image, scale: float) -> Image.Image:
    """Return the image with both sides multiplied by `scale`."""
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def fit_to_cells(images: Sequence[Image.Image], width: int) -> tuple[list[Image.Image], tuple[int, int]]:
    """Return the images scaled to fit a common cell, and the size of the cell (width, height).

    The aspect ratio of the cell is the median of the images, between 3:4 and 3:2.
    """
    median = sorted(image.width / image.height for image in images)[len(images) // 2]
    height = round(width / min(max(median, 0.75), 1.5))
    scaled = [scale_image(image, min(width / image.width, height / image.height)) for image in images]
    return scaled, (width, height)


def arrange_grid(
    images: Sequence[Image.Image], texts: Sequence[Sequence[Text]], columns: int, cell: tuple[int, int], gutter: int
) -> Image.Image:
    """Return a sheet of images in reading order, each in a cell (width, height) with its texts below it."""
    width, height = cell
    padding = gutter // 3  # between an image and its text, and between texts
    text_heights = [sum(padding + text.height for text in paragraphs) for paragraphs in texts]
    row_heights = [height + max(text_heights[first : first + columns]) for first in range(0, len(texts), columns)]
    size = (columns * (width + gutter) + gutter, sum(row_heights) + (len(row_heights) + 1) * gutter)
    sheet = Image.new("RGB", size, PAPER)
    for index, (image, paragraphs) in enumerate(zip(images, texts, strict=True)):
        row, column = divmod(index, columns)
        left = gutter + column * (width + gutter)
        bottom = sum(row_heights[:row]) + (row + 1) * gutter + height
        sheet.paste(image, (left + (width - image.width) // 2, bottom - image.height))
        for text in paragraphs:
            text.draw(sheet, center=left + width // 2, top=bottom + padding)
            bottom += padding + text.height
    return sheet


def stack_title(title: Text, image: Image.Image, width: int) -> Image.Image:
    """Return a sheet of the given width with a title above the image."""
    band = title.height + title.line_height  # half a line of padding above and below
    sheet = Image.new("RGB", (width, band + image.height), PAPER)
    title.draw(sheet, center=width // 2, top=title.line_height // 2)
    sheet.paste(image, ((width - image.width) // 2, band))
    return sheet
