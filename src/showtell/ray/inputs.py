"""What a job reads: image files, WebDataset tars and Parquet files, here or wherever fsspec reaches, in shards.

Shards are known before the work begins and are the same every time, so that a job can tell which of them are done.
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
from showtell.images import SUFFIXES, batched, find_images
from showtell.utils.threads import parallel_map

READ_AT_A_TIME = 16
MAX_MEMBER_BYTES = 1 << 30
NAME_COLUMNS = ("path", "file_name", "url", "key", "__key__")

Source = Path | bytes | ImageError


@dataclass(frozen=True)
class Shard:
    """A part of the input that one worker reads from its beginning to its end.

    Attributes:
        kind: what it is of.
        places: paths or addresses: of the images, or of the one tar or Parquet file.
        root: what the paths of its images begin with that is no part of their names in a feature file.
        row_group: of a Parquet file, the part that it is.
    """

    kind: Literal["files", "tar", "parquet"]
    places: tuple[str, ...]
    root: str = ""
    row_group: int = 0

    def images(self) -> Iterator[tuple[str, Source]]:
        """Yield the path of each image, and its file, or its bytes, or why it cannot be read.

        Raises OSError if a tar, a Parquet file or a network cannot be read: the job cannot go on then.
        """
        if self.kind == "tar":
            return _members(self.places[0])
        if self.kind == "parquet":
            return _rows(self.places[0], self.row_group)
        return _files(self.places)

    def name_of(self, path: str) -> str:
        """Return the name that an image goes by in a feature file."""
        return path.removeprefix(self.root)


def is_address(place: str | Path) -> bool:
    """Tell whether this is an address for fsspec and no path."""
    return "://" in str(place)


def list_shards(places: Iterable[str], size: int, recursive: bool = True, root: str = "") -> list[Shard]:
    """Return the shards of files and folders: `size` image files each, or a tar, or a row group of a Parquet file.

    Args:
        places: paths and addresses, of folders too, which are searched in order of names.
        size: image files of a shard.
        recursive: search the folders in a folder, too.
        root: what the paths of image files begin with that is no part of their names in a feature file.

    Raises:
        ConfigurationError: if there are no images, or a Parquet file has none that can be found.
    """
    found = [file for place in places for file in _search(place, recursive)]
    archives = [place for place in found if place.endswith(".tar")]
    tables = [place for place in found if place.endswith(".parquet")]
    files = [place for place in found if not place.endswith((".tar", ".parquet"))]
    shards = [Shard("files", tuple(batch), root) for batch in batched(files, size)]
    shards += [Shard("tar", (place,), f"{place}/") for place in archives]
    for place, groups in zip(tables, parallel_map(_row_groups, tables, 1, READ_AT_A_TIME), strict=True):
        shards += [Shard("parquet", (place,), f"{place}/", group) for group in range(groups)]
    if not shards:
        raise ConfigurationError("there are no images, .tar or .parquet files in what was named")
    return shards


def _search(place: str, recursive: bool) -> Iterator[str]:
    suffixes = {*SUFFIXES, ".tar", ".parquet"}
    if not is_address(place):
        yield from map(str, find_images([place], recursive, suffixes))
        return
    system, path = fsspec.core.url_to_fs(place)
    if not system.isdir(path):
        yield place
        return
    for file in sorted(system.find(path, maxdepth=None if recursive else 1)):
        parts = PurePosixPath(file.removeprefix(path)).parts
        if PurePosixPath(file).suffix.lower() in suffixes and not any(part.startswith(".") for part in parts):
            yield system.unstrip_protocol(file)


def _files(places: Iterable[str]) -> Iterator[tuple[str, Source]]:
    return parallel_map(lambda place: (place, _read(place)), places, 1, READ_AT_A_TIME)


def _read(place: str) -> Source:
    if not is_address(place):
        return Path(place)
    try:
        with fsspec.open(place, "rb") as file:
            return bytes(file.read())
    except FileNotFoundError:
        return ImageError(f"{place!r}: no such file")


def _members(place: str) -> Iterator[tuple[str, Source]]:
    with fsspec.open(place, "rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                for member in archive:
                    name = PurePosixPath(member.name)
                    if not member.isfile() or name.suffix.lower() not in SUFFIXES or name.name.startswith("."):
                        continue
                    path = f"{place}/{member.name}"
                    if member.size > MAX_MEMBER_BYTES:
                        yield path, ImageError(f"{path!r}: {member.size:,} bytes are more than {MAX_MEMBER_BYTES:,}")
                        continue
                    content: Any = archive.extractfile(member)
                    yield path, content.read()
        except (tarfile.TarError, EOFError) as error:
            yield place, ImageError(f"{place!r}: damaged, what comes after is lost ({error})")


def _row_groups(place: str) -> int:
    try:
        with fsspec.open(place, "rb") as file:
            table = pyarrow.parquet.ParquetFile(file)
            _columns(place, table.schema_arrow)
            return int(table.num_row_groups)
    except pyarrow.ArrowInvalid as error:
        raise ConfigurationError(f"{place}: not a Parquet file that can be read ({_one_line(error)})") from None


def _columns(place: str, schema: Any) -> tuple[str | None, str | None]:
    """Return the column of the images' bytes and that of their paths; one of them may be None."""
    images = [field.name for field in schema if _holds_bytes(field.type)]
    names = [name for name in NAME_COLUMNS if name in schema.names and _is_text(schema.field(name).type)]
    if not images and not names:
        raise ConfigurationError(
            f"{place}: has neither a column of image bytes nor one of {', '.join(NAME_COLUMNS)}, but "
            f"{', '.join(schema.names)}"
        )
    return next(iter(images), None), next(iter(names), None)


def _holds_bytes(kind: Any) -> bool:
    # Hugging Face's data sets keep an image as {"bytes": .., "path": ..}.
    if pyarrow.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def _is_text(kind: Any) -> bool:
    return bool(pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind))


def _rows(place: str, group: int) -> Iterator[tuple[str, Source]]:
    with fsspec.open(place, "rb") as file:
        table = pyarrow.parquet.ParquetFile(file)
        image, name = _columns(place, table.schema_arrow)
        number = sum(table.metadata.row_group(before).num_rows for before in range(group))
        columns = [column for column in (image, name) if column is not None]
        for batch in table.iter_batches(READ_AT_A_TIME, row_groups=[group], columns=columns):
            rows = batch.to_pylist()
            if image is None:
                yield from _files(row[name] or "" for row in rows)
                continue
            for row in rows:
                content, path = row[image], row.get(name)
                if isinstance(content, dict):
                    content, path = content["bytes"], path or content.get("path")
                path = path or f"{place}/{number}"
                yield path, ImageError(f"{path!r}: no bytes in {place}") if content is None else content
                number += 1


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
