"""Alt text for the images of HTML and Markdown pages."""

from showtell.alt_text.missing_alts import MissingAlt, find_missing_alts, insert_texts
from showtell.alt_text.pages import Page, UndescribedImage
from showtell.alt_text.proposals import Proposal, propose_texts, read_pages
from showtell.alt_text.websites import Website

__all__ = [
    "MissingAlt",
    "Page",
    "Proposal",
    "UndescribedImage",
    "Website",
    "find_missing_alts",
    "insert_texts",
    "propose_texts",
    "read_pages",
]
