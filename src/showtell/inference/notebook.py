"""HTML for notebooks: an image with its captions."""

import base64
from collections.abc import Iterable
from html import escape
from io import BytesIO

from showtell.errors import ImageError
from showtell.images import ImageSource, decode
from showtell.inference.confidence import MIN_SURE

THUMBNAIL_SIDE = 320


def render_html(source: ImageSource | None, captions: Iterable[tuple[str, float | None]]) -> str:
    """Return a figure with the image, if it can be read, and one line per caption with its confidence."""
    lines = "<br>".join(escape(text) + _confidence(confidence) for text, confidence in captions)
    return f"<figure>{_thumbnail(source)}<figcaption>{lines}</figcaption></figure>"


def _confidence(confidence: float | None) -> str:
    if confidence is None:
        return ""
    unsure = "" if confidence >= MIN_SURE else "unsure, "
    return f" <small>[{unsure}{confidence:.0%}]</small>"


def _thumbnail(source: ImageSource | None) -> str:
    if source is None:
        return ""
    try:
        image = decode(source, at_least=THUMBNAIL_SIDE)
    except ImageError:  # a file that was moved, or an image that was closed
        return ""
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    content = BytesIO()
    image.save(content, "JPEG", quality=85)
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}">'
