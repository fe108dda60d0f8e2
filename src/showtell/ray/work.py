"""What a worker does with a shard: captions, or features. Whatever it needs travels to it with the job."""

import io
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow
import pyarrow.parquet

from showtell.encoder import Encoder, EncoderInfo
from showtell.errors import ImageError
from showtell.images import batched
from showtell.inference.bundle import Bundle
from showtell.inference.captioner import Captioner
from showtell.inference.search import SearchOptions
from showtell.outputs.files import entry_of
from showtell.ray.folder import Folder
from showtell.ray.inputs import Shard, Source

TableFormat = Literal["parquet", "jsonl"]
ERRORS = "errors"

_SCORED = pyarrow.list_(
    pyarrow.struct({"caption": pyarrow.string(), "log_prob": pyarrow.float64(), "score": pyarrow.float64()})
)


@dataclass(frozen=True)
class Count:
    """How many images are done, and how many could not be read."""

    done: int = 0
    failed: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.done + other.done, self.failed + other.failed)


class Work(Protocol):
    """What is done with each shard; it is sent to the workers, and loads its model when it is first called.

    Attributes:
        kind: the folder that its results are in.
        unit: what is done, as one says it to users.
    """

    kind: str
    unit: str

    @property
    def suffix(self) -> str:
        """What the names of results end in."""

    def settings(self) -> dict[str, Any]:
        """Return what decides the results, for job.json."""
        ...

    def __call__(self, shard: Shard, name: str, folder: Folder) -> Count:
        """Do a shard, and write its results under this name, the file that says that it is done last."""
        ...


@dataclass
class Captioning:
    """Captions of a shard, in a table.

    Attributes:
        bundles: the model, or the models of an ensemble.
        options: how to search.
        min_confidence: if given, captions with less are marked.
        table_format: Parquet, or JSON Lines as `showtell caption --jsonl` writes them.
        batch_size: images that a thread captions at a time.
    """

    bundles: Sequence[Bundle]
    options: SearchOptions
    min_confidence: float | None
    table_format: TableFormat
    batch_size: int
    kind = "captions"
    unit = "captioned"

    @property
    def suffix(self) -> str:  # noqa: D102
        return f".{self.table_format}"

    def settings(self) -> dict[str, Any]:
        """Return what decides the results."""
        return {
            "models": [bundle.fingerprint for bundle in self.bundles],
            "search": vars(self.options),
            "min_confidence": self.min_confidence,
            "format": self.table_format,
        }

    @cached_property
    def _captioner(self) -> Captioner:
        return Captioner(self.bundles)

    def __call__(self, shard: Shard, name: str, folder: Folder) -> Count:
        """Caption a shard."""
        errors: list[tuple[str, str]] = []
        paths: deque[str] = deque()
        rows = []
        sources = _readable(shard, errors, paths)
        for result in self._captioner.caption(sources, self.options, self.batch_size):
            path = paths.popleft()
            if result.error is not None:
                errors.append((path, _named(result.error, path)))
            else:
                rows.append(entry_of(replace(result, source=path), self.min_confidence, self.options.n_best > 1))
        write_errors(folder, name, errors, self.table_format)
        folder.write(f"{self.kind}/{name}{self.suffix}", table(rows, self._schema, self.table_format))
        return Count(len(rows), len(errors))

    @property
    def _schema(self) -> dict[str, Any]:
        schema = {"path": pyarrow.string(), "caption": pyarrow.string(), "confidence": pyarrow.float64()}
        if self.min_confidence is not None:
            schema["needs_review"] = pyarrow.bool_()
        return {**schema, "captions": _SCORED} if self.options.n_best > 1 else schema


@dataclass
class Extracting:
    """Features of a shard, in a feature file of its own.

    Attributes:
        load: gives the encoder, on the worker.
        info: what it must be.
        dtype: "float16" or "float32".
        batch_size: images that are encoded at a time.
    """

    load: Callable[[], Encoder]
    info: EncoderInfo
    dtype: str
    batch_size: int
    kind = "features"
    suffix = ".npy"
    unit = "encoded"

    def settings(self) -> dict[str, Any]:
        """Return what decides the results."""
        return {"encoder": self.info.to_dict(), "dtype": self.dtype}

    @cached_property
    def _encoder(self) -> Encoder:
        encoder = self.load()
        encoder.info.require_same(self.info, "the encoder of a worker", "that of the job")
        return encoder

    def __call__(self, shard: Shard, name: str, folder: Folder) -> Count:
        """Encode a shard."""
        errors: list[tuple[str, str]] = []
        paths: deque[str] = deque()
        encoder = self._encoder
        names, rows = [], []
        for batch in batched(self.info.preprocess.load_all(_readable(shard, errors, paths)), self.batch_size):
            pixels = []
            for result in batch:
                path = paths.popleft()
                if isinstance(result, ImageError):
                    errors.append((path, _named(result, path)))
                else:
                    names.append(shard.name_of(path))
                    pixels.append(result)
            if pixels:
                rows.append(encoder.encode(np.stack(pixels)).astype(self.dtype))
        shape = (self.info.cells, self.info.channels)
        array = np.concatenate(rows) if rows else np.empty((0, *shape), self.dtype)
        content = io.BytesIO()
        np.save(content, array[:, 0] if self.info.cells == 1 else array)
        failed = [(shard.name_of(path), reason) for path, reason in errors]
        description = {**self.settings(), "images": names, "failed": failed}
        write_errors(folder, name, errors, "parquet")
        folder.write(f"{self.kind}/{name}.json", json.dumps(description).encode())
        folder.write(f"{self.kind}/{name}{self.suffix}", content.getvalue())
        return Count(len(names), len(errors))


def write_errors(folder: Folder, name: str, errors: Sequence[tuple[str, str]], table_format: TableFormat) -> None:
    """Write the table of the images of a shard that could not be read, or see that there is none."""
    file = f"{ERRORS}/{name}.{table_format}"
    if not errors:
        folder.remove(file)
        return
    schema = {"path": pyarrow.string(), "error": pyarrow.string()}
    folder.write(file, table([{"path": path, "error": reason} for path, reason in errors], schema, table_format))


def table(rows: Sequence[Mapping[str, Any]], schema: Mapping[str, Any], table_format: TableFormat) -> bytes:
    """Return rows as a Parquet file with these columns, or in JSON Lines."""
    if table_format == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    # A path need not be text for the file system, but for Parquet.
    encoded = [
        {
            key: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
            for key, value in row.items()
        }
        for row in rows
    ]
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(encoded, pyarrow.schema(schema)), content)
    return content.getvalue()


def _readable(shard: Shard, errors: list[tuple[str, str]], paths: deque[str]) -> Iterator[Any]:
    """Yield what can be decoded, with its path put into `paths`; put the rest into `errors`."""
    source: Source
    for path, source in shard.images():
        if isinstance(source, ImageError):
            errors.append((path, str(source)))
        else:
            paths.append(path)
            yield source


def _named(error: ImageError, path: str) -> str:
    # Of bytes, the decoder does not know what they are called.
    return str(error).replace("the image", repr(path), 1) if str(error).startswith("the image:") else str(error)
