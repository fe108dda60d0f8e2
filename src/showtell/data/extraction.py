"""Extracting features: encode images once, and resume after an interruption."""

import io
import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from showtell.data.features import Features, partial_path
from showtell.encoder import Encoder, EncoderInfo
from showtell.errors import FeatureError
from showtell.utils.files import atomic_write, with_filename, write_json
from showtell.utils.iterables import batched
from showtell.utils.locks import exclusive_lock

BATCH_SIZE = 8


def extract_features(
    images: Sequence[tuple[str, Path]],
    encoder: Encoder,
    path: str | Path,
    dtype: str = "float16",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Features:
    """Encode images into a feature file. An interrupted extraction of the same images is resumed.

    Images are decoded in threads while the encoder runs. Memory use does not depend on the number of images.

    Args:
        images: the name and the file of each image. The rows have this order, without the unreadable images.
        encoder: the encoder.
        path: the file to write, NAME.npy.
        dtype: "float16" or "float32".
        progress: called after each batch with the number of images done and the total.

    Returns:
        The opened features. If the file is already complete, it is only opened.

    Raises:
        FeatureError: if `path` exists with other content, or no image is readable.
        ConfigurationError: if another process is writing to `path`.
    """
    path = Path(path)
    if path.suffix != ".npy":
        raise FeatureError(f"{path}: the name of a feature file must end in .npy")
    with exclusive_lock(path), with_filename(path):
        names = [name for name, _ in images]
        if path.exists():
            features = _open_finished(path, names, encoder.info, dtype)
            _journal_path(path).unlink(missing_ok=True)
            return features
        with FeatureWriter(path, names, encoder.info, dtype) as writer:
            remaining = images[writer.done :]
            for batch in batched(encoder.info.preprocess.load_all(file for _, file in remaining), BATCH_SIZE):
                pixels = [result for result in batch if isinstance(result, np.ndarray)]
                rows = encoder.encode(np.stack(pixels)) if pixels else np.empty((0, *writer.row_shape))
                writer.write(rows, [None if isinstance(result, np.ndarray) else str(result) for result in batch])
                progress(writer.done, len(images))
        return Features.open(path)


class FeatureWriter:
    """Writes a feature file in batches, so that an interrupted extraction can be resumed.

    Rows go to `NAME.npy.partial`, and the journal `NAME.npy.partial.jsonl` gets a line for each image. After the last
    image, leaving the `with` block turns both into `NAME.npy` and `NAME.json`. Otherwise both remain, and the next
    writer for the same encoder, type and images continues with the first missing image.

    Args:
        path: the file to write, NAME.npy. It must not exist.
        names: the names of all images in order.
        encoder: the encoder of the rows.
        dtype: "float16" or "float32".

    Attributes:
        row_shape: (G, D) for a grid, (D,) for pooled features.

    Raises:
        FeatureError: if NAME.json exists without a partial file, or if no image was readable (when leaving the block).
    """

    def __init__(self, path: Path, names: Sequence[str], encoder: EncoderInfo, dtype: str):
        if path.with_suffix(".json").exists() and not partial_path(path).exists():
            raise FeatureError(f"{path.with_suffix('.json')}: belongs to another feature file; choose another name")
        self.row_shape = (encoder.channels,) if encoder.cells == 1 else (encoder.cells, encoder.channels)
        self._path, self._names, self._dtype = path, names, np.dtype(dtype)
        self._job = {"encoder": encoder.to_dict(), "dtype": dtype}
        self._results = self._read_results()
        if not self._results:
            partial_path(path).write_bytes(self._header(rows=0))
        # Rewritten because the last line of an interrupted run may be incomplete.
        with atomic_write(_journal_path(path)) as temporary:
            lines = (json.dumps(line) + "\n" for line in (self._job, *self._results))
            temporary.write_text("".join(lines), encoding="utf-8")
        with ExitStack() as files:
            self._data = files.enter_context(open(partial_path(path), "r+b"))
            self._journal = files.enter_context(open(_journal_path(path), "a", encoding="utf-8"))
            self._files = files.pop_all()
        self._data.truncate(self._data_size(self._results))
        self._data.seek(0, os.SEEK_END)

    @property
    def done(self) -> int:
        """Number of images done, including those of an interrupted extraction."""
        return len(self._results)

    def write(self, rows: np.ndarray, errors: Sequence[str | None]) -> None:
        """Append the next images.

        Args:
            rows: (K, G, D) features of the readable images.
            errors: one entry per image: None, or the reason why it is unreadable.
        """
        self._data.write(rows.astype(self._dtype).tobytes())
        self._data.flush()  # before the journal, which must never be ahead of the rows
        results = list(zip(self._names[self.done : self.done + len(errors)], errors, strict=True))
        self._journal.writelines(json.dumps(result) + "\n" for result in results)
        self._journal.flush()
        self._results += results

    def __enter__(self) -> "FeatureWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        is_complete = error is None and self.done == len(self._names)
        readable = [name for name, reason in self._results if reason is None]
        with self._files:
            if is_complete and readable:
                self._data.seek(0)
                self._data.write(self._header(len(readable)))
                self._data.flush()
                os.fsync(self._data.fileno())
        if is_complete and readable:
            self._publish(readable)
        elif is_complete:
            self._discard()

    def _publish(self, images: list[str]) -> None:
        failed = [result for result in self._results if result[1] is not None]
        write_json(self._path.with_suffix(".json"), {**self._job, "images": images, "failed": failed})
        os.replace(partial_path(self._path), self._path)
        _journal_path(self._path).unlink()

    def _discard(self) -> None:
        partial_path(self._path).unlink()
        _journal_path(self._path).unlink()
        first_error = self._results[0][1] if self._results else "there are no images"
        raise FeatureError(f"{self._path}: none of the {len(self._names)} images is readable: {first_error}")

    def _header(self, rows: int) -> bytes:
        # NumPy pads the header so that the first dimension can grow: its size does not depend on `rows`.
        header = io.BytesIO()
        description = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(header, {**description, "shape": (rows, *self.row_shape)})
        return header.getvalue()

    def _data_size(self, results: Sequence[tuple[str, str | None]]) -> int:
        rows = sum(reason is None for _, reason in results)
        return len(self._header(rows=0)) + rows * int(np.prod(self.row_shape)) * self._dtype.itemsize

    def _read_results(self) -> list[tuple[str, str | None]]:
        """Return the (name, error) pairs of an interrupted extraction, or an empty list if it was another job."""
        results = _read_journal(_journal_path(self._path), self._job, self._names)
        partial = partial_path(self._path)
        if not partial.exists() or partial.stat().st_size < self._data_size(results):
            return []
        return results


def _journal_path(path: Path) -> Path:
    return path.with_name(path.name + ".partial.jsonl")


def _read_journal(path: Path, job: dict[str, Any], names: Sequence[str]) -> list[tuple[str, str | None]]:
    results: list[tuple[str, str | None]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        if json.loads(lines[0]) != json.loads(json.dumps(job)):
            return []
    except (OSError, IndexError, ValueError):
        return []
    for line, expected in zip(lines[1:], names, strict=False):
        try:
            name, error = json.loads(line)
        except ValueError:  # the incomplete last line of an interrupted run
            break
        if name != expected:
            return []
        results.append((name, error))
    return results


def _open_finished(path: Path, names: Sequence[str], encoder: EncoderInfo, dtype: str) -> Features:
    """Open a finished feature file. Raises FeatureError if it is not the result of the same extraction."""
    features = Features.open(path)
    is_same = (
        features.encoder == encoder
        and features.array.dtype == dtype
        and features.images is not None
        and {*names} == {*features.images, *(name for name, _ in features.failed)}
    )
    if not is_same:
        raise FeatureError(
            f"{path}: already exists, with other images, another encoder or another data type; "
            "remove it or choose another name"
        )
    return features
