"""Where a model looked for each word of a caption, as a picture."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from showtell.drawing.fonts import Fonts
from showtell.drawing.sheets import Text, grid, scaled, stack_title
from showtell.errors import ConfigurationError

MAP_SIZE = 1600, 1200
MIN_PANEL = 160, 40
PANEL_GUTTER, WORD_SIZE, MAP_TITLE_SIZE = 24, 24, 40
FULL_LIGHT = 4.0  # times the mean weight: a word that looks everywhere is shown in a quarter of the light
SHADE = 0.3  # of the brightness, where no light is
GLOW = (90, 62, 22)


def attention_map(
    image: Image.Image, caption: str, words: Sequence[str], weights: np.ndarray, fonts: Fonts | None = None
) -> Image.Image:
    """Return a sheet that shows for every word of a caption at which places of the image the model looked for it.

    Under the caption comes the image, then a panel for each word: the image dark and grey, and lit where the weights
    are. The light of a cell is its weight over the largest weight of the word, or over FULL_LIGHT times the mean where
    that is more. So a single place is fully lit, and weights that are all equal light everything alike and dimly. From
    the centre of one cell to the next the light changes smoothly. The grid covers the whole image, as encoders see it
    squashed to a square.

    Args:
        image: an RGB image.
        caption: the title.
        words: the words of the caption, one for each row of weights.
        weights: (words, G) attention weights, none negative, of a square grid of G cells in rows from the top.
        fonts: where the fonts for caption and words come from.

    Raises:
        ConfigurationError: if there are not as many rows of weights as words, or the grid is not square.
    """
    side = math.isqrt(weights.shape[1])
    if len(weights) != len(words) or side * side != weights.shape[1] or not side:
        raise ConfigurationError(
            f"attention weights {weights.shape} do not fit {len(words)} words and a square grid of cells"
        )
    columns, scale = _packed(image.size, 1 + len(words))
    picture = scaled(image, scale)
    cell = max(picture.width, MIN_PANEL[0]), picture.height
    panels = [picture, *(_lit(picture, cells) for cells in weights.reshape(-1, side, side))]
    texts = [[Text(word, WORD_SIZE, cell[0], fonts=fonts)] for word in ("", *words)]
    sheet = grid(panels, texts, columns, cell, PANEL_GUTTER)
    return stack_title(Text(caption, MAP_TITLE_SIZE, width=round(0.94 * sheet.width), fonts=fonts), sheet, sheet.width)


def _packed(size: tuple[int, int], count: int) -> tuple[int, float]:
    """Return the number of columns and the scale with which `count` panels of a size come out largest in MAP_SIZE."""
    below = PANEL_GUTTER // 3 + Text("", WORD_SIZE, MIN_PANEL[0]).line_height
    fits = []
    for columns in range(1, min(count, MAP_SIZE[0] // (MIN_PANEL[0] + PANEL_GUTTER)) + 1):
        width = MAP_SIZE[0] / columns - PANEL_GUTTER
        height = max(MAP_SIZE[1] / math.ceil(count / columns) - PANEL_GUTTER - below, MIN_PANEL[1])
        fits.append((min(width / size[0], height / size[1]), columns))
    scale, columns = max(fits)
    return columns, scale


def _lit(picture: Image.Image, weights: np.ndarray) -> Image.Image:
    """Return a picture in the light of weights (S, S)."""
    light = weights / max(weights.max(), FULL_LIGHT * weights.mean(), np.finfo(np.float32).tiny)
    stretched = Image.fromarray(light.astype(np.float32)).resize(picture.size, Image.Resampling.BICUBIC)
    light = np.asarray(stretched).clip(0, 1)[..., None]
    shaded = SHADE * np.asarray(picture.convert("L"), np.float32)[..., None]
    lit = shaded + light * (np.asarray(picture) - shaded)
    # Light shows nothing on what is black, so that it also glows there; what is bright keeps its colour.
    glow = light * (1 - lit.max(axis=2, keepdims=True) / 255) * np.array(GLOW, np.float32)
    return Image.fromarray((lit + glow).round().astype(np.uint8))
