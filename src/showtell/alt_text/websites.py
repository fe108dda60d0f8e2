"""Folders of websites, and the addresses of files in them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from showtell.alt_text.missing_alts import PAGE_SUFFIXES
from showtell.errors import PageError

MAX_PATH = 1024  # characters, as on macOS; the time to resolve symbolic links is quadratic


class Website:
    """A folder with the files of a website. No file outside of it is read or written.

    Attributes:
        root: the folder, to which addresses that start with a slash are relative.
    """

    def __init__(self, root: Path):
        self.root = root
        # The path comes before the symbolic links. Otherwise, Windows would ask another computer for \\computer\file.
        resolvers = os.path.abspath, os.path.realpath
        self._prefixes = [(resolve, resolve(root).rstrip(os.sep) + os.sep) for resolve in resolvers]

    def contains(self, file: Path) -> bool:
        """Return whether a file is in the folder, by its path and with symbolic links resolved."""
        return all(resolve(file).startswith(prefix) for resolve, prefix in self._prefixes)

    def pages(self, on_error: Callable[[OSError], object]) -> Iterator[Path]:
        """Yield the HTML and Markdown files, sorted by name.

        Hidden files and folders are skipped. Symbolic links to folders are not followed.

        Args:
            on_error: called with the error of a folder that cannot be listed.
        """
        for folder, folders, names in os.walk(self.root, onerror=on_error):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if Path(name).suffix.lower() in PAGE_SUFFIXES and not name.startswith("."):
                    yield Path(folder, name)

    def local_path(self, source: str, page: Path) -> Path | None:
        """Return the file that an address on a page refers to; None if it is remote or part of the page (data:).

        Args:
            source: the address.
            page: the file of the page.

        Raises:
            PageError: if the file is outside of the folder, or the address is not that of a file.
        """
        try:
            address = urlsplit(source.strip())
        except ValueError:
            return None
        if address.scheme == "file":
            raise PageError("a file: address; use an address relative to the page")
        if address.scheme or address.netloc or not address.path:
            return None
        path = os.fsdecode(unquote_to_bytes(address.path))
        if "\0" in path or len(path) > MAX_PATH:
            raise PageError("not an address of a file")
        file = self.root / path.lstrip("/") if path.startswith("/") else page.parent / path
        if not self.contains(file):
            raise PageError(f"outside of {self.root}; pass the folder of the whole website")
        return file
