"""Image sources: a file, its content, or an image in memory."""

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

# A path, the content of an image file, an open binary file, a Pillow image, or pixels (H, W, 3) uint8.
ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray


def read_source(source: ImageSource) -> Path | bytes | Image.Image | np.ndarray:
    """Return the source as a path, bytes, image or array; a file object is read. Raises TypeError for other types."""
    match source:
        case str() | os.PathLike():
            return Path(source)
        case bytes() | Image.Image() | np.ndarray():
            return source
        case bytearray() | memoryview():
            return bytes(source)
    if callable(getattr(source, "read", None)):
        content = source.read()
        if isinstance(content, bytes):
            return content
        raise TypeError("not a binary file: open image files with mode 'rb'")
    raise TypeError(
        f"not an image source: {type(source).__name__}. Pass a path, bytes, a binary file, a PIL image or an array"
    )
