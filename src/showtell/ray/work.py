"""The work on one shard: captions or features. It is sent to the workers with everything that it needs."""

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
from showtell.inference.bundle import Bundle
from showtell.inference.captioner import Captioner
from showtell.inference.search_options import SearchOptions
from showtell.outputs import make_record
from showtell.ray.folder import JobFolder
from showtell.ray.inputs import Shard, Source
from showtell.utils.iterables import batched

TableFormat = Literal["parquet", "jsonl"]
ERRORS = "errors"

_SCORED = pyarrow.list_(
    pyarrow.struct({"caption": pyarrow.string(), "log_prob": pyarrow.float64(), "score": pyarrow.float64()})
)


@dataclass(frozen=True)
class Count:
    """The number of processed images, and of images that could not be read."""

    done: int = 0
    failed: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.done + other.done, self.failed + other.failed)


class Work(Protocol):
    """The work on each shard. It is pickled, sent to the workers, and loads its model on the first call.

    Attributes:
        kind: the subfolder of its results.
        unit: a participle for messages, such as "captioned".
    """

    kind: str
    unit: str

    @property
    def suffix(self) -> str:
        """The suffix of result files."""

    def settings(self) -> dict[str, Any]:
        """Return the settings that determine the results, for job.json."""
        ...

    def __call__(self, shard: Shard, name: str, folder: JobFolder) -> Count:
        """Process a shard and write its results under this name. Write the file that marks it as done last."""
        ...


@dataclass
class CaptionWork:
    """Writes the captions of a shard to a table.

    Attributes:
        bundles: the model, or the models of an ensemble.
        options: decoding options.
        min_confidence: if given, captions with a lower confidence are marked for review.
        table_format: Parquet, or JSON Lines as written by `showtell caption --jsonl`.
        batch_size: images per batch and thread.
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
        """Return the settings that determine the results."""
        return {
            "models": [bundle.fingerprint for bundle in self.bundles],
            "search": vars(self.options),
            "min_confidence": self.min_confidence,
            "format": self.table_format,
        }

    @cached_property
    def _captioner(self) -> Captioner:
        return Captioner(self.bundles)

    def __call__(self, shard: Shard, name: str, folder: JobFolder) -> Count:
        """Caption the images of a shard."""
        errors: list[tuple[str, str]] = []
        paths: deque[str] = deque()
        rows = []
        sources = _readable_images(shard, errors, paths)
        for result in self._captioner.caption(sources, self.options, self.batch_size):
            path = paths.popleft()
            if result.error is not None:
                errors.append((path, _with_path(result.error, path)))
            else:
                rows.append(make_record(replace(result, source=path), self.min_confidence, self.options.n_best > 1))
        write_errors(folder, name, errors, self.table_format)
        folder.write(f"{self.kind}/{name}{self.suffix}", encode_table(rows, self._schema, self.table_format))
        return Count(len(rows), len(errors))

    @property
    def _schema(self) -> dict[str, Any]:
        schema = {"path": pyarrow.string(), "caption": pyarrow.string(), "confidence": pyarrow.float64()}
        if self.min_confidence is not None:
            schema["needs_review"] = pyarrow.bool_()
        return {**schema, "captions": _SCORED} if self.options.n_best > 1 else schema


@dataclass
class ExtractionWork:
    """Writes the features of a shard to a feature file.

    Attributes:
        load: loads the encoder on the worker.
        info: the expected identity of the encoder.
        dtype: "float16" or "float32".
        batch_size: images per batch.
    """

    load: Callable[[], Encoder]
    info: EncoderInfo
    dtype: str
    batch_size: int
    kind = "features"
    suffix = ".npy"
    unit = "encoded"

    def settings(self) -> dict[str, Any]:
        """Return the settings that determine the results."""
        return {"encoder": self.info.to_dict(), "dtype": self.dtype}

    @cached_property
    def _encoder(self) -> Encoder:
        encoder = self.load()
        encoder.info.require_same(self.info, "the worker", "the job")
        return encoder

    def __call__(self, shard: Shard, name: str, folder: JobFolder) -> Count:
        """Encode the images of a shard."""
        errors: list[tuple[str, str]] = []
        paths: deque[str] = deque()
        encoder = self._encoder
        names, rows = [], []
        for batch in batched(self.info.preprocess.load_all(_readable_images(shard, errors, paths)), self.batch_size):
            pixels = []
            for result in batch:
                path = paths.popleft()
                if isinstance(result, ImageError):
                    errors.append((path, _with_path(result, path)))
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


def write_errors(folder: JobFolder, name: str, errors: Sequence[tuple[str, str]], table_format: TableFormat) -> None:
    """Write the table of images of a shard that could not be read; remove it if there are none."""
    file = f"{ERRORS}/{name}.{table_format}"
    if not errors:
        folder.remove(file)
        return
    schema = {"path": pyarrow.string(), "error": pyarrow.string()}
    folder.write(file, encode_table([{"path": path, "error": reason} for path, reason in errors], schema, table_format))


def encode_table(rows: Sequence[Mapping[str, Any]], schema: Mapping[str, Any], table_format: TableFormat) -> bytes:
    """Return rows as the content of a Parquet file with this schema, or of a JSON Lines file."""
    if table_format == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    # Parquet needs valid Unicode, but paths may contain other bytes.
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


def _readable_images(shard: Shard, errors: list[tuple[str, str]], paths: deque[str]) -> Iterator[Any]:
    """Yield the readable images of a shard. Append their paths to `paths`, and the others to `errors`."""
    source: Source
    for path, source in shard.images():
        if isinstance(source, ImageError):
            errors.append((path, str(source)))
        else:
            paths.append(path)
            yield source


def _with_path(error: ImageError, path: str) -> str:
    # The decoder does not know the name of an image that was passed as bytes.
    return str(error).replace("the image", repr(path), 1) if str(error).startswith("the image:") else str(error)
