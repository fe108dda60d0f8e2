"""Pages of a website on disk, and changes to them."""

import difflib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from showtell.alt_text.missing_alts import MissingAlt, find_missing_alts
from showtell.errors import PageError
from showtell.utils.files import atomic_write


@dataclass(frozen=True)
class Page:
    """An HTML or Markdown file.

    Attributes:
        path: the file.
        content: its content.
        missing: the local images without alt text, each with its path.
    """

    path: Path
    content: bytes
    missing: tuple[tuple[MissingAlt, Path], ...]

    @classmethod
    def read(cls, path: Path, root: Path) -> "Page":
        """Read a page.

        Args:
            path: the file.
            root: folder of the website, to which addresses that start with a slash are relative.

        Raises:
            PageError: if it cannot be parsed.
            OSError: if it cannot be read.
        """
        content = path.read_bytes()
        try:
            found = find_missing_alts(content, path.suffix)
        except PageError as error:
            raise PageError(f"{path}: {error}") from None
        images = ((missing, local_path(missing.source, path, root)) for missing in found)
        return cls(path, content, tuple((missing, image) for missing, image in images if image is not None))

    def write(self, content: bytes) -> None:
        """Replace the content of the file. Permissions and symbolic links are kept.

        Raises:
            PageError: if the file has changed since it was read.
            OSError: if it cannot be written.
        """
        file = self.path.resolve()
        if file.read_bytes() != self.content:
            raise PageError(f"{self.path}: changed by another program since it was read; run the command again")
        with atomic_write(file) as temporary:
            temporary.write_bytes(content)
            shutil.copymode(file, temporary)

    def diff(self, content: bytes) -> bytes:
        """Return the change to a new content as a unified diff for `git apply` and `patch -p1`."""
        name = os.fsencode(self.path.as_posix().lstrip("/"))
        # In a diff, only a line feed ends a line.
        old, new = (re.findall(rb"[^\n]*\n|[^\n]+", version) for version in (self.content, content))
        lines = difflib.diff_bytes(difflib.unified_diff, old, new, b"a/" + name, b"b/" + name)
        return b"".join(line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n" for line in lines)


def local_path(source: str, page: Path, root: Path) -> Path | None:
    """Return the file that an address on a page refers to; None if it is remote or part of the page (data:).

    Args:
        source: the address.
        page: the file of the page.
        root: folder of the website, to which addresses that start with a slash are relative.
    """
    try:
        address = urlsplit(source.strip())
    except ValueError:
        return None
    if address.scheme or address.netloc or not address.path:
        return None
    path = os.fsdecode(unquote_to_bytes(address.path))
    return root / path.lstrip("/") if path.startswith("/") else page.parent / path
