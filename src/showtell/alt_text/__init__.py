"""Alt text for the images of HTML and Markdown pages."""

from showtell.alt_text.missing_alts import MissingAlt, find_missing_alts, insert_texts
from showtell.alt_text.pages import Page, local_path
from showtell.alt_text.proposals import Proposal, UndescribedImage, propose_texts, read_pages

__all__ = [
    "MissingAlt",
    "Page",
    "Proposal",
    "UndescribedImage",
    "find_missing_alts",
    "insert_texts",
    "local_path",
    "propose_texts",
    "read_pages",
]
