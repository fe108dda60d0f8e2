"""The input of a job: image files, WebDataset .tar files and Parquet files, local or at any URL, in shards.

The shards are listed before the work starts, and are the same every time. A restarted job can therefore skip those that
are done.
"""

import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import fsspec
import pyarrow
import pyarrow.parquet

from showtell.errors import ConfigurationError, ImageError
from showtell.images import SUFFIXES, find_images
from showtell.utils.iterables import batched
from showtell.utils.text import one_line
from showtell.utils.threads import parallel_map

READ_AT_A_TIME = 16
MAX_MEMBER_BYTES = 1 << 30
NAME_COLUMNS = ("path", "file_name", "url", "key", "__key__")

Source = Path | bytes | ImageError


@dataclass(frozen=True)
class Shard:
    """A part of the input that one worker processes.

    Attributes:
        kind: image files, a .tar file, or a row group of a Parquet file.
        urls: paths or URLs of the image files, or of the one .tar or Parquet file.
        root: prefix of the image paths that is not part of their names in a feature file.
        row_group: the row group of the Parquet file.
    """

    kind: Literal["files", "tar", "parquet"]
    urls: tuple[str, ...]
    root: str = ""
    row_group: int = 0

    def images(self) -> Iterator[tuple[str, Source]]:
        """Yield the path and the source of each image. The source is a file, its content, or the error of reading it.

        Raises:
            OSError: if the .tar file, the Parquet file or the network cannot be read; this stops the job.
        """
        if self.kind == "tar":
            return _read_tar(self.urls[0])
        if self.kind == "parquet":
            return _read_row_group(self.urls[0], self.row_group)
        return _read_files(self.urls)

    def name_of(self, path: str) -> str:
        """Return the name of an image in a feature file."""
        return path.removeprefix(self.root)


def is_url(url: str | Path) -> bool:
    """Return whether this is a URL instead of a path."""
    return "://" in str(url)


def list_shards(urls: Iterable[str], size: int, recursive: bool = True, root: str = "") -> list[Shard]:
    """Return the shards of files and folders: `size` image files each, a .tar file, or a row group of a Parquet file.

    Args:
        urls: paths and URLs of files and folders; folders are searched in alphabetical order.
        size: image files per shard.
        recursive: search subfolders.
        root: prefix of the paths of image files that is not part of their names in a feature file.

    Raises:
        ConfigurationError: if there are no images, or a Parquet file has no column of images.
    """
    found = [file for url in urls for file in _search(url, recursive)]
    archives = [url for url in found if url.endswith(".tar")]
    tables = [url for url in found if url.endswith(".parquet")]
    files = [url for url in found if not url.endswith((".tar", ".parquet"))]
    shards = [Shard("files", tuple(batch), root) for batch in batched(files, size)]
    shards += [Shard("tar", (url,), f"{url}/") for url in archives]
    for url, groups in zip(tables, parallel_map(_count_row_groups, tables, 1, READ_AT_A_TIME), strict=True):
        shards += [Shard("parquet", (url,), f"{url}/", group) for group in range(groups)]
    if not shards:
        raise ConfigurationError("no images, .tar or .parquet files found; check the paths")
    return shards


def _search(url: str, recursive: bool) -> Iterator[str]:
    suffixes = {*SUFFIXES, ".tar", ".parquet"}
    if not is_url(url):
        yield from map(str, find_images([url], recursive, suffixes))
        return
    system, path = fsspec.core.url_to_fs(url)
    if not system.isdir(path):
        yield url
        return
    for file in sorted(system.find(path, maxdepth=None if recursive else 1)):
        parts = PurePosixPath(file.removeprefix(path)).parts
        if PurePosixPath(file).suffix.lower() in suffixes and not any(part.startswith(".") for part in parts):
            yield system.unstrip_protocol(file)


def _read_files(urls: Iterable[str]) -> Iterator[tuple[str, Source]]:
    return parallel_map(lambda url: (url, _read_file(url)), urls, 1, READ_AT_A_TIME)


def _read_file(url: str) -> Source:
    if not is_url(url):
        return Path(url)
    try:
        with fsspec.open(url, "rb") as file:
            return bytes(file.read())
    except FileNotFoundError:
        return ImageError(f"{url!r}: no such file")


def _read_tar(url: str) -> Iterator[tuple[str, Source]]:
    with fsspec.open(url, "rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                for member in archive:
                    name = PurePosixPath(member.name)
                    if not member.isfile() or name.suffix.lower() not in SUFFIXES or name.name.startswith("."):
                        continue
                    path = f"{url}/{member.name}"
                    if member.size > MAX_MEMBER_BYTES:
                        yield (
                            path,
                            ImageError(f"{path!r}: too large: {member.size:,} bytes exceed {MAX_MEMBER_BYTES:,}"),
                        )
                        continue
                    content: Any = archive.extractfile(member)
                    yield path, content.read()
        except (tarfile.TarError, EOFError) as error:
            yield url, ImageError(f"{url!r}: damaged archive; the remaining images cannot be read ({error})")


def _count_row_groups(url: str) -> int:
    try:
        with fsspec.open(url, "rb") as file:
            table = pyarrow.parquet.ParquetFile(file)
            _find_columns(url, table.schema_arrow)
            return int(table.num_row_groups)
    except pyarrow.ArrowInvalid as error:
        raise ConfigurationError(f"{url}: not a readable Parquet file: {one_line(error)}") from None


def _find_columns(url: str, schema: Any) -> tuple[str | None, str | None]:
    """Return the names of the columns with image contents and with image paths; one of them may be None."""
    images = [field.name for field in schema if _holds_bytes(field.type)]
    names = [name for name in NAME_COLUMNS if name in schema.names and _is_text(schema.field(name).type)]
    if not images and not names:
        raise ConfigurationError(
            f"{url}: no column has image bytes or one of the names {', '.join(NAME_COLUMNS)}; columns: "
            f"{', '.join(schema.names)}"
        )
    return next(iter(images), None), next(iter(names), None)


def _holds_bytes(kind: Any) -> bool:
    # Hugging Face data sets store an image as {"bytes": ..., "path": ...}.
    if pyarrow.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def _is_text(kind: Any) -> bool:
    return bool(pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind))


def _read_row_group(url: str, group: int) -> Iterator[tuple[str, Source]]:
    with fsspec.open(url, "rb") as file:
        table = pyarrow.parquet.ParquetFile(file)
        image, name = _find_columns(url, table.schema_arrow)
        number = sum(table.metadata.row_group(before).num_rows for before in range(group))
        columns = [column for column in (image, name) if column is not None]
        for batch in table.iter_batches(READ_AT_A_TIME, row_groups=[group], columns=columns):
            rows = batch.to_pylist()
            if image is None:
                yield from _read_files(row[name] or "" for row in rows)
                continue
            for row in rows:
                content, path = row[image], row.get(name)
                if isinstance(content, dict):
                    content, path = content["bytes"], path or content.get("path")
                path = path or f"{url}/{number}"
                yield path, ImageError(f"{path!r}: no image bytes in {url}") if content is None else content
                number += 1
