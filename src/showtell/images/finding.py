"""Image files in folders."""

import os
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from showtell.errors import ImageError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"})
RAW_SUFFIXES = frozenset({".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".dng", ".pef", ".srw"})


def find_images(
    paths: Iterable[str | Path], recursive: bool = True, suffixes: Container[str] = SUFFIXES
) -> Iterator[Path]:
    """Yield the given files. For each given folder, yield its files with a known suffix, sorted by name.

    A given file is yielded even if it does not exist or is not an image, so that decoding it reports the error. For the
    same reason, a folder that cannot be listed is yielded itself. Hidden files and folders are skipped.

    Args:
        paths: files and folders.
        recursive: search subfolders.
        suffixes: lower-case suffixes to look for; by default those of images.
    """
    unlisted: list[Path] = []
    for path in map(Path, paths):
        if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a name is too long
            yield path
            continue
        seen: set[tuple[int, int]] = set()
        walk = os.walk(path, onerror=lambda error: unlisted.append(Path(error.filename)), followlinks=True)
        for folder, folders, names in walk:
            here = Path(folder).stat()
            if (here.st_dev, here.st_ino) in seen:  # a symbolic link to a parent folder
                folders.clear()
                continue
            seen.add((here.st_dev, here.st_ino))
            folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
            for name in sorted(names):
                if Path(name).suffix.lower() in suffixes and not name.startswith("."):
                    yield Path(folder, name)
    yield from unlisted


def list_images(folder: Path) -> list[tuple[str, Path]]:
    """Return the relative name, with slashes, and the path of every image in a folder.

    Raises:
        ImageError: if the folder does not exist or has no images.
    """
    images = [(path.relative_to(folder).as_posix(), path) for path in find_images([folder])] if folder.is_dir() else []
    if not images:
        raise ImageError(f"{str(folder)!r}: no such folder, or no images in it")
    return images
