"""Images: find them, decode them safely, and resize them to the input size of an encoder."""

from showtell.images.decoding import MAX_PIXELS, decode
from showtell.images.finding import RAW_SUFFIXES, SUFFIXES, find_images, list_images
from showtell.images.formats import open_image
from showtell.images.preprocess import Preprocess
from showtell.images.sources import ImageSource, read_source

__all__ = [
    "MAX_PIXELS",
    "RAW_SUFFIXES",
    "SUFFIXES",
    "ImageSource",
    "Preprocess",
    "decode",
    "find_images",
    "list_images",
    "open_image",
    "read_source",
]
