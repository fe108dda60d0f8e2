"""An image with its caption as a title."""

from PIL import Image

from showtell.drawing.fonts import Fonts
from showtell.drawing.layout import scale_image, stack_title
from showtell.drawing.text import Text

MIN_WIDTH, MAX_SIDE = 480, 1280


def draw_title(image: Image.Image, caption: str, fonts: Fonts | None = None) -> Image.Image:
    """Return an image with its caption as a title above it, wrapped to the width.

    Args:
        image: an RGB image. It is enlarged to a width of MIN_WIDTH pixels if it is narrower, and reduced if a side is
            longer than MAX_SIDE. The aspect ratio is kept.
        caption: the title; whitespace is collapsed.
        fonts: the fonts to choose from.
    """
    scale = min(max(1.0, MIN_WIDTH / image.width), MAX_SIDE / max(image.size))
    scaled = scale_image(image, scale)
    width = max(MIN_WIDTH, scaled.width)
    return stack_title(Text(caption, font_size=width // 24, width=round(0.94 * width), fonts=fonts), scaled, width)
