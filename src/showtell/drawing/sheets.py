"""Sheets of many images: contact sheets, and groups of panels with remarks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from showtell.drawing.fonts import Fonts
from showtell.drawing.layout import PAPER, arrange_grid, fit_to_cells
from showtell.drawing.text import FAINT_INK, Text
from showtell.errors import ConfigurationError
from showtell.utils.text import plural

SHEET_WIDTH = 1280
MIN_CELL, MAX_CELL = 224, 480
HEADING_SIZE, MARGIN = 24, 24


def contact_sheet(images: Sequence[Image.Image], captions: Sequence[str], fonts: Fonts | None = None) -> Image.Image:
    """Return a grid of thumbnails, each with its caption below it.

    Thumbnails keep their aspect ratio and fit into cells of one size, whose aspect ratio is the median of the images.
    The grid is wider than it is high. Cells are as large as a sheet of SHEET_WIDTH pixels allows, between MIN_CELL and
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
            f"a contact sheet needs at least one image and one caption per image, not {plural(len(images), 'image')} "
            f"and {plural(len(captions), 'caption')}"
        )
    rows = math.ceil(len(images) / math.ceil(math.sqrt(1.5 * len(images))))
    columns = math.ceil(len(images) / rows)
    width = _cell_width(columns)
    texts = [[Text(caption, font_size=max(14, width // 20), width=width, fonts=fonts)] for caption in captions]
    thumbnails, cell = fit_to_cells(images, width)
    return arrange_grid(thumbnails, texts, columns, cell, _gutter(width))


@dataclass(frozen=True)
class Panel:
    """An image with its caption and further remarks. Each remark is a separate paragraph."""

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
    width = _cell_width(max(map(len, groups.values())))
    rows = [
        (Text(heading, HEADING_SIZE, width, fonts=fonts), _panel_row(panels, width, fonts))
        for heading, panels in groups.items()
    ]
    height = sum(heading.height + row.height for heading, row in rows) + MARGIN
    sheet = Image.new("RGB", (max(row.width for _, row in rows), height), PAPER)
    top = MARGIN
    for heading, row in rows:
        heading.draw(sheet, center=sheet.width // 2, top=top)
        sheet.paste(row, ((sheet.width - row.width) // 2, top + heading.height))
        top += heading.height + row.height
    return sheet


def _panel_row(panels: Sequence[Panel], width: int, fonts: Fonts | None) -> Image.Image:
    texts = [
        [
            Text(panel.caption, font_size=max(14, width // 18), width=width, fonts=fonts),
            *(Text(remark, max(12, width // 22), width, FAINT_INK, fonts) for remark in panel.remarks),
        ]
        for panel in panels
    ]
    images, cell = fit_to_cells([panel.image for panel in panels], width)
    return arrange_grid(images, texts, len(panels), cell, _gutter(width))


def _cell_width(columns: int) -> int:
    return min(max(SHEET_WIDTH // columns, MIN_CELL), MAX_CELL)


def _gutter(width: int) -> int:
    return max(24, width // 12)
