"""Attention maps: where the model looked for each word of a caption."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from showtell.drawing.fonts import Fonts
from showtell.drawing.layout import arrange_grid, scale_image, stack_title
from showtell.drawing.text import Text
from showtell.errors import ConfigurationError

MAP_SIZE = 1600, 1200
MIN_PANEL = 160, 40
PANEL_GUTTER, WORD_SIZE, MAP_TITLE_SIZE = 24, 24, 40
FULL_LIGHT = 4.0  # a weight of this many times the mean is fully lit; uniform attention gets a quarter of the light
SHADE = 0.3  # share of the brightness that remains where the attention is zero
GLOW = (90, 62, 22)


def attention_map(
    image: Image.Image, caption: str, words: Sequence[str], weights: np.ndarray, fonts: Fonts | None = None
) -> Image.Image:
    """Return a sheet with one panel per word that lights up the parts of the image with high attention.

    The first panel is the image itself. The others show it dark and grey, lit in proportion to the attention
    weight. The weight is divided by the largest weight of the word, or by FULL_LIGHT times the mean weight if that is
    larger. A single cell is therefore fully lit, and uniform attention lights everything dimly. Light is interpolated
    between the centres of the cells. The grid covers the whole image, because encoders squash images to a square.

    Args:
        image: an RGB image.
        caption: the title.
        words: the words of the caption, one per row of weights.
        weights: (words, G) non-negative attention weights of a square grid of G cells, in rows from the top.
        fonts: the fonts to choose from.

    Raises:
        ConfigurationError: if the number of rows differs from the number of words, or the grid is not square.
    """
    side = math.isqrt(weights.shape[1])
    if len(weights) != len(words) or side * side != weights.shape[1] or not side:
        raise ConfigurationError(
            f"attention weights of shape {weights.shape} do not match {len(words)} words on a square grid"
        )
    columns, scale = _best_layout(image.size, 1 + len(words))
    image = scale_image(image, scale)
    cell = max(image.width, MIN_PANEL[0]), image.height
    panels = [image, *(_light_up(image, cells) for cells in weights.reshape(-1, side, side))]
    texts = [[Text(word, WORD_SIZE, cell[0], fonts=fonts)] for word in ("", *words)]
    sheet = arrange_grid(panels, texts, columns, cell, PANEL_GUTTER)
    return stack_title(Text(caption, MAP_TITLE_SIZE, width=round(0.94 * sheet.width), fonts=fonts), sheet, sheet.width)


def _best_layout(size: tuple[int, int], count: int) -> tuple[int, float]:
    """Return the number of columns and the largest scale at which `count` panels of this size fit into MAP_SIZE."""
    text_height = PANEL_GUTTER // 3 + Text("", WORD_SIZE, MIN_PANEL[0]).line_height
    layouts = []
    for columns in range(1, min(count, MAP_SIZE[0] // (MIN_PANEL[0] + PANEL_GUTTER)) + 1):
        width = MAP_SIZE[0] / columns - PANEL_GUTTER
        height = max(MAP_SIZE[1] / math.ceil(count / columns) - PANEL_GUTTER - text_height, MIN_PANEL[1])
        layouts.append((min(width / size[0], height / size[1]), columns))
    scale, columns = max(layouts)
    return columns, scale


def _light_up(image: Image.Image, weights: np.ndarray) -> Image.Image:
    """Return the image lit by weights (S, S)."""
    light = weights / max(weights.max(), FULL_LIGHT * weights.mean(), np.finfo(np.float32).tiny)
    interpolated = Image.fromarray(light.astype(np.float32)).resize(image.size, Image.Resampling.BICUBIC)
    light = np.asarray(interpolated).clip(0, 1)[..., None]
    shaded = SHADE * np.asarray(image.convert("L"), np.float32)[..., None]
    lit = shaded + light * (np.asarray(image) - shaded)
    # Light is invisible on black, so dark areas also glow. Bright areas keep their colour.
    glow = light * (1 - lit.max(axis=2, keepdims=True) / 255) * np.array(GLOW, np.float32)
    return Image.fromarray((lit + glow).round().astype(np.uint8))
