"""Checks of uploaded image files before they are decoded."""

from PIL import Image

from showtell.images import open_image
from showtell.server.settings import ServerSettings

# Pillow's other formats are programs (EPS) or are not used for photos.
ALLOWED_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")


def reject_reason(content: bytes, settings: ServerSettings) -> str | None:
    """Return why an image file is rejected because of its header; None if it may be decoded."""
    if not content:
        return "the file is empty"
    try:
        with open_image(content) as image:
            format_, width, height = image.format, image.width, image.height
    except Image.DecompressionBombError:
        return f"more than {settings.max_pixels:,} pixels; reduce the image"
    except Exception:  # decoding gives a more precise message
        return None
    if format_ not in ALLOWED_FORMATS:
        return f"{format_} files are not accepted; send a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
    if width * height > settings.max_pixels:
        return f"{width} x {height} pixels exceed the limit of {settings.max_pixels:,}; reduce the image"
    return None
