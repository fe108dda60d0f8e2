"""Captions in sidecar files next to the images."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from showtell.errors import ConfigurationError
from showtell.inference.caption import Caption
from showtell.outputs.output import ResumableOutput
from showtell.outputs.records import Record
from showtell.utils.files import atomic_write


class Sidecars(ResumableOutput):
    """A text file next to each image, NAME.txt for NAME.jpg, as expected by tools that train image models.

    A caption that needs review is not written, because a text file cannot mark it.

    Args:
        images: the paths of all images. If several have the same sidecar file, it belongs to the first one.
        overwrite: replace existing files.
    """

    is_per_image = True

    def __init__(self, images: Iterable[str], overwrite: bool = False):
        self._overwrite = overwrite
        self._owners: dict[Path, str] = {}
        for path in images:
            self._owners.setdefault(_sidecar(path), path)
        self._written: set[Path] = set()

    def has(self, path: str) -> bool:
        """Return whether the sidecar file of this image exists, no matter which program wrote it."""
        sidecar = _sidecar(path)
        if sidecar == Path(path) or self._owners[sidecar] != path:
            return False
        return sidecar in self._written or (not self._overwrite and os.path.lexists(sidecar))

    def add(self, record: Record, captions: Sequence[Caption] = ()) -> None:
        """Write the sidecar file of an image unless it exists.

        Raises:
            ConfigurationError: if the file would replace the image itself or the sidecar file of another image.
        """
        if "error" in record or record.get("needs_review"):
            return
        path = record["path"]
        sidecar = _sidecar(path)
        if (owner := self._owners[sidecar]) != path or sidecar == Path(path):
            raise ConfigurationError(
                f"{path!r}: its sidecar file {sidecar.name!r} belongs to {owner!r}; rename one of the images"
            )
        if self.has(path):
            return
        with atomic_write(sidecar) as temporary:
            temporary.write_text(record["caption"] + "\n", encoding="utf-8")
        self._written.add(sidecar)


def _sidecar(path: str) -> Path:
    return Path(path).with_suffix(".txt")
