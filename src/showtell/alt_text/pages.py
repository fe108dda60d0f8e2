"""Pages of a website on disk, and changes to them."""

import os
import shutil
import stat
import sys
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from showtell.alt_text.diffs import unified_diff
from showtell.alt_text.missing_alts import MAX_PAGE_BYTES, MissingAlt, find_missing_alts
from showtell.alt_text.websites import Website
from showtell.errors import PageError
from showtell.utils.files import atomic_write, with_filename


@dataclass(frozen=True)
class UndescribedImage:
    """An image without a proposed text. A person has to write the text.

    Attributes:
        missing: the image.
        reason: why there is no proposal.
        is_error: whether the image could not be captioned. Otherwise a caption would not help, or is not good enough.
    """

    missing: MissingAlt
    reason: str
    is_error: bool


@dataclass(frozen=True)
class Page:
    """An HTML or Markdown file.

    Attributes:
        path: the path that was given.
        file: the file without symbolic links.
        content: its content.
        missing: the local images without alt text, each with its path.
        undescribed: the images without alt text that cannot get one: in template code, or outside of the website.
    """

    path: Path
    file: Path
    content: bytes
    missing: tuple[tuple[MissingAlt, Path], ...]
    undescribed: tuple[UndescribedImage, ...]

    @classmethod
    def read(cls, path: Path, website: Website) -> "Page":
        """Read a page.

        Args:
            path: the file.
            website: the website that the page is part of.

        Raises:
            PageError: if the page links out of the website, is too large or not text.
            OSError: if it cannot be read.
        """
        file = Path(os.path.realpath(path))
        try:
            if not website.contains(path):
                raise PageError(f"links to {file}, which is outside of {website.root}; pass that file instead")
            with with_filename(path, file):
                content = _read(file)
            found = find_missing_alts(content, path.suffix)
        except PageError as error:
            raise PageError(f"{path}: {error}") from None
        missing, undescribed = [], []
        locate = cache(partial(_locate, website, path))  # pages repeat addresses
        for image in found:
            local, reason = (None, "template code") if image.is_template else locate(image.source)
            if reason:
                undescribed.append(UndescribedImage(image, reason, is_error=not image.is_template))
            elif local is not None:
                missing.append((image, local))
        return cls(path, file, content, tuple(missing), tuple(undescribed))

    def write(self, content: bytes) -> None:
        """Replace the content of the file. Its owner, permissions and extended attributes are kept.

        Raises:
            PageError: if the file has changed since it was read, has other hard links, or another owner.
            OSError: if it cannot be written.
        """
        with with_filename(self.path, self.file):
            status = self.file.stat()
            if _read(self.file) != self.content:
                raise PageError(f"{self.path}: changed by another program since it was read; run the command again")
        if status.st_nlink > 1:
            raise PageError(
                f"{self.path}: has {status.st_nlink} hard links, which writing would separate; replace it with a copy"
            )
        with atomic_write(self.file) as temporary:
            # Exclusive creation does not follow a symbolic link that has this name. Only the owner can read the file
            # until it has its permissions.
            with open(temporary, "xb", opener=partial(os.open, mode=0o600)) as output:
                output.write(content)
            _copy_owner(self.path, status, temporary)
            shutil.copystat(self.file, temporary)
            os.utime(temporary)

    def diff(self, content: bytes) -> bytes:
        """Return the change to a new content as a unified diff for `git apply` and `patch -p1`.

        The name in the diff is relative to the current folder. For a file elsewhere, it is relative to the root of the
        file system.

        Args:
            content: the new content. Changes are within lines.
        """
        folder = os.path.realpath(os.curdir)
        name = self.file.relative_to(folder) if self.file.is_relative_to(folder) else self.file
        return unified_diff(os.fsencode(name.as_posix().lstrip("/")), self.content, content)


def _locate(website: Website, page: Path, source: str) -> tuple[Path | None, str]:
    """Return the file of a local image, and why it is not used."""
    try:
        return website.local_path(source, page), ""
    except PageError as error:
        return None, str(error)


def _read(file: Path) -> bytes:
    """Return the content of a regular file, up to a byte more than the largest page."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise PageError("not a regular file")
    with open(file, "rb") as page:
        return page.read(MAX_PAGE_BYTES + 1)


def _copy_owner(page: Path, status: os.stat_result, target: Path) -> None:
    """Give a file the owner and the group of a page. Raises PageError if this user may not."""
    new = target.stat()
    if (new.st_uid, new.st_gid) == (status.st_uid, status.st_gid) or sys.platform == "win32":
        return
    try:
        os.chown(target, status.st_uid, status.st_gid)
    except PermissionError:
        raise PageError(
            f"{page}: belongs to another user or group, who would lose it; run the command as its owner"
        ) from None
