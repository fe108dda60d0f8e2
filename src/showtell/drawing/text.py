"""Text, wrapped into centred lines."""

import math
from collections.abc import Iterable, Iterator

from PIL import Image, ImageDraw

from showtell.drawing.fonts import Fonts

INK, FAINT_INK = "#1f2328", "#656d76"


class Text:
    """Text in centred lines of similar length, none wider than `width` pixels.

    Args:
        text: the text; whitespace is collapsed.
        font_size: height of the characters in pixels.
        width: maximum width of a line in pixels.
        ink: colour of the text.
        fonts: the fonts to choose from.
    """

    def __init__(self, text: str, font_size: int, width: int, ink: str = INK, fonts: Fonts | None = None):
        self.ink = ink
        self.font = (fonts or Fonts()).choose(text, font_size)
        self.line_height = round(1.35 * font_size)
        words = text.split()
        self.lines = self._wrap(words, width)
        # To balance the lines, use the narrowest width that adds no lines and breaks no additional words.
        lengths = (math.ceil(self.font.getlength(word)) for word in words)
        longest = max((length for length in lengths if length <= width), default=0)
        for narrower in range(max(width // 2, longest), width, max(1, width // 40)):
            lines = self._wrap(words, narrower)
            if len(lines) == len(self.lines):
                self.lines = lines
                break

    @property
    def height(self) -> int:
        """Height in pixels, from the top of the first line to the bottom of the last."""
        return len(self.lines) * self.line_height

    def draw(self, canvas: Image.Image, center: int, top: int) -> None:
        """Draw the lines, centred horizontally at `center`, the first one below `top`."""
        pen = ImageDraw.Draw(canvas)
        for number, line in enumerate(self.lines):
            baseline = top + (number + 0.75) * self.line_height
            pen.text((center, baseline), line, fill=self.ink, font=self.font, anchor="ms")

    def _wrap(self, words: Iterable[str], width: int) -> list[str]:
        lines: list[str] = []
        for word in words:
            if lines and self.font.getlength(f"{lines[-1]} {word}") <= width:
                lines[-1] += f" {word}"
            else:
                lines += self._break_word(word, width)
        return lines

    def _break_word(self, word: str, width: int) -> Iterator[str]:
        start = 0
        for end in range(2, len(word) + 1):
            if self.font.getlength(word[start:end]) > width:
                yield word[start : end - 1]
                start = end - 1
        yield word[start:]
