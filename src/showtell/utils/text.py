"""Text for messages."""

import unicodedata

# The joiners of Persian, Indic scripts and emoji, the direction marks of Arabic and Hebrew text, and the tags of flag
# emoji. They do not move the cursor, and affect the order of text only as an ordinary letter does.
_INVISIBLE = "\u200c\u200d\u200e\u200f" + "".join(map(chr, range(0xE0020, 0xE0080)))


def plural(count: int, noun: str) -> str:
    """Return a count and its noun, such as "1 image" or "3 images"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def one_line(error: Exception) -> str:
    """Return the message of an exception of another library on one line."""
    return " ".join(str(error).split())


def printable(text: str) -> str:
    r"""Return a text as one line without control characters.

    Control characters, line separators, bidirectional embeddings, overrides and isolates, and undecodable bytes of file
    names are escaped as in Python. Otherwise a file name or a caption could clear the screen, change earlier output, or
    look like another text (Boucher and Anderson 2021, https://arxiv.org/abs/2111.00169).

    Examples:
        >>> print(printable("a\n\x1b[2J.jpg"))
        a\n\x1b[2J.jpg
    """
    if text.isprintable():
        return text
    return "".join(letter if _is_safe_to_print(letter) else letter.encode("unicode_escape").decode() for letter in text)


def _is_safe_to_print(letter: str) -> bool:
    return letter.isprintable() or letter in _INVISIBLE or unicodedata.category(letter) == "Zs"
