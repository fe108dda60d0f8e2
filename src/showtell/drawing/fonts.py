"""Choosing a font that contains the characters of a text."""

import unicodedata
from functools import cache
from pathlib import Path

from PIL import ImageFont, features

from showtell.errors import ConfigurationError

# Searched in the font folders of the system, in this order. Fonts with many scripts come first.
SYSTEM_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "segoeui.ttf", "Arial Unicode.ttf", "FreeSans.ttf"),
    *("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf"),
    *("msyh.ttc", "YuGothR.ttc", "malgun.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc"),
    *("NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf", "NotoSansThai-Regular.ttf", "LeelawUI.ttf"),
    *("NotoSansDevanagari-Regular.ttf", "NotoSansBengali-Regular.ttf", "NotoSansTamil-Regular.ttf", "Nirmala.ttc"),
    *("unifont.otf", "unifont.ttf"),
)
BUILT_IN = ""  # the font of Pillow, for English
_NO_CHARACTER = "\U0010ffff"
_MAX_LISTED = 10


class Fonts:
    """Chooses a font for each text, and records characters that no font has.

    Args:
        file: the font for all texts. By default, each text gets the first font with all its characters: the font of
            Pillow, then the installed ones of SYSTEM_FONTS.

    Raises:
        ConfigurationError: if the file is not a font.
    """

    def __init__(self, file: str | Path | None = None):
        self.file = file
        self._missing: dict[str, None] = {}
        self._lacks_raqm = False
        if file is not None:
            try:
                ImageFont.truetype(file)
            except OSError as error:
                why = f"not a readable font ({error})" if Path(file).exists() else "no such font"
                raise ConfigurationError(f"{file}: {why}") from None

    def choose(self, text: str, size: int) -> ImageFont.FreeTypeFont:
        """Return a font for a text, with characters `size` pixels high."""
        names = (BUILT_IN, *SYSTEM_FONTS) if self.file is None else (str(self.file),)
        name, missing = names[0], _missing_characters(names[0], text)
        for candidate in names[1:]:
            if not missing:
                break
            if _probe(candidate) and len(fewer := _missing_characters(candidate, text)) < len(missing):
                name, missing = candidate, fewer
        self._missing |= dict.fromkeys(missing)
        self._lacks_raqm |= not features.check("raqm") and any(map(_is_right_to_left, text))
        return _load(name, size)

    @property
    def notes(self) -> list[str]:
        """Problems with the texts so far, one line each."""
        notes = []
        if self._missing:
            listed = " ".join(list(self._missing)[:_MAX_LISTED]) + (" .." if len(self._missing) > _MAX_LISTED else "")
            lacks = f"the font {self.file} lacks" if self.file else "no installed font has"
            notes.append(f"{lacks} the characters {listed}; images show boxes instead")
        if self._lacks_raqm:
            notes.append("Pillow lacks the Raqm library; images show right-to-left text from left to right")
        return notes


def _is_right_to_left(character: str) -> bool:
    return unicodedata.bidirectional(character) in ("R", "AL")


def _load(name: str, size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ConfigurationError(
            "this Pillow was built without FreeType and cannot draw text; install another build of Pillow"
        )
    return font


@cache
def _probe(name: str) -> ImageFont.FreeTypeFont | None:
    """Return a font to look up characters in; None if it is not installed."""
    try:
        # The basic layout looks up single characters; Raqm would combine them.
        return ImageFont.truetype(name, 20, layout_engine=ImageFont.Layout.BASIC) if name else _load(name, 20)
    except OSError:
        return None


def _missing_characters(name: str, text: str) -> list[str]:
    """Return the letters, digits, punctuation marks and symbols of a text that a font lacks, each once."""
    visible = (character for character in dict.fromkeys(text) if unicodedata.category(character)[0] in "LNPS")
    return [character for character in visible if _lacks(name, character)]


@cache
def _lacks(name: str, character: str) -> bool:
    """Return whether a font draws a character like one that does not exist."""
    font = _probe(name)
    if font is None:
        return True
    glyph, missing = font.getmask(character), font.getmask(_NO_CHARACTER)
    return glyph.size == missing.size and bytes(glyph) == bytes(missing)
