"""The feature file: one row of encoder output per image, extracted once, memory-mapped ever after.

`NAME.npy` holds the rows, (N, D) for pooled features and (N, G, D) for a grid; `NAME.json` beside it says which encoder
made them and which image each row belongs to. While an extraction is under way its rows are in `NAME.npy.partial`, and
`NAME.npy.partial.jsonl` has a line for each image done, so that an interrupted one goes on where it stopped.

Features of very many images are a folder of such files, shards, `NUMBER-of-TOTAL.npy`; see scale/.
"""

import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from showtell.encoder import Encoder, EncoderInfo
from showtell.errors import FeatureError, import_extra
from showtell.images import batched
from showtell.utils.files import atomic_write, memmap_dataset, with_filename, write_json
from showtell.utils.locks import exclusive_lock

BATCH_SIZE = 8


class Rows(Protocol):
    """What there is of an array (N, G, D) where its rows need not be in one place."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, G, D)."""

    @property
    def dtype(self) -> np.dtype:
        """The type of the numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """Return the rows (K,) int that are asked for, (K, G, D)."""
        ...


class JoinedRows:
    """Rows of several arrays (N_i, G, D) of one type, as if they were one array; only what is asked for is copied."""

    def __init__(self, arrays: Sequence[np.ndarray]):
        # As plain arrays: numpy's memmap class takes ten times as long to index, and they stay mapped.
        self._arrays = [np.asarray(array) for array in arrays]
        self._ends = np.cumsum([len(array) for array in arrays])
        self.shape = (int(self._ends[-1]), *arrays[0].shape[1:])
        self.dtype = arrays[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """Return the rows (K,) int that are asked for, (K, G, D). Raises IndexError if there is none of that number."""
        rows = np.asarray(rows)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        holders = np.searchsorted(self._ends, rows, side="right")
        for holder in np.unique(holders):
            here = holders == holder
            array = self._arrays[holder]
            found[here] = array[rows[here] - (self._ends[holder] - len(array))]
        return found


@dataclass(frozen=True)
class Features:
    """Features of many images.

    Attributes:
        array: (N, G, D), memory-mapped where the file allows it.
        images: the file name of each row's image, or None if the file does not say (one made by other programs).
        encoder: what made them, or None likewise.
        failed: images that could not be read, with the reason; they have no row.
    """

    array: Rows
    images: tuple[str, ...] | None = None
    encoder: EncoderInfo | None = None
    failed: tuple[tuple[str, str], ...] = ()

    @classmethod
    def open(cls, path: str | Path) -> "Features":
        """Open `NAME.npy` with its `NAME.json` if there is one, an `.h5` file with a data set `features`, or shards.

        Raises:
            FeatureError: if the file is missing, damaged, or does not match its `.json`; or a shard is missing.
            MismatchError: if shards are of different encoders.
        """
        path = Path(path)
        if path.is_dir():
            return _open_shards(path)
        if not path.exists():
            partial = " (an unfinished extraction: run the same command again)" if _partial(path).exists() else ""
            raise FeatureError(f"{path}: no such feature file{partial}; make it with: showtell extract")
        try:
            array = _open_h5(path) if path.suffix in (".h5", ".hdf5") else np.load(path, mmap_mode="r")
            if array.ndim == 2:
                array = array[:, None, :]
            if array.ndim != 3 or array.dtype.kind != "f":
                raise ValueError(f"it holds {array.dtype} of shape {array.shape}")
            description = path.with_suffix(".json")
            if not description.exists():
                return cls(array)
            fields = json.loads(description.read_text(encoding="utf-8"))
            images = tuple(fields["images"])
            if len(images) != len(array):
                raise ValueError(f"{description} names {len(images)} images, but there are {len(array)} rows")
            failed = tuple((name, reason) for name, reason in fields["failed"])
            return cls(array, images, EncoderInfo.from_dict(fields["encoder"]), failed)
        except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
            raise FeatureError(f"{path}: not a usable feature file: {error}; extract it again") from None


def _open_shards(folder: Path) -> Features:
    paths = sorted(folder.glob("*.npy"))
    if not paths and (folder / "features").is_dir():
        raise FeatureError(f"{folder}: no feature files in it; name {folder / 'features'}")
    if not paths:
        raise FeatureError(f"{folder}: no feature files in it; make them with: showtell extract --engine ray")
    total = re.fullmatch(r"\d+-of-(\d+)", paths[0].stem)
    if total and len(paths) != int(total[1]):
        raise FeatureError(
            f"{folder}: {len(paths)} of {int(total[1])} shards are there; give the command again that makes them"
        )
    shards = [Features.open(path) for path in paths]
    first = shards[0]
    images: list[str] = []
    for path, shard in zip(paths, shards, strict=True):
        if shard.images is None or shard.encoder is None or first.encoder is None:
            raise FeatureError(f"{path}: does not say what it is of, as a shard must; extract it again")
        shard.encoder.require_same(first.encoder, str(path), str(paths[0]))
        if (shard.array.shape[1:], shard.array.dtype) != (first.array.shape[1:], first.array.dtype):
            raise FeatureError(f"{path}: holds other numbers than {paths[0].name}; extract it again")
        images += shard.images
    if len(set(images)) < len(images):
        twice = next(name for name, count in Counter(images).items() if count > 1)
        raise FeatureError(f"{folder}: features of {twice!r} are there twice; images need names of their own")
    array = JoinedRows([np.asarray(shard.array) for shard in shards])
    return Features(array, tuple(images), first.encoder, tuple(failed for shard in shards for failed in shard.failed))


def extract(
    images: Sequence[tuple[str, Path]],
    encoder: Encoder,
    path: str | Path,
    dtype: str = "float16",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Features:
    """Encode images into a feature file, going on where an interrupted extraction of the same images stopped.

    Decoding runs in threads beside the encoder; memory does not grow with the number of images.

    Args:
        images: the name that each image goes by, and its file; row i belongs to the i-th image that can be read.
        encoder: what encodes them.
        path: the file to write, NAME.npy.
        dtype: "float16" or "float32".
        progress: called after each batch with the number of images done and the number in all.

    Returns:
        The features, opened. If the file is there already and complete, nothing is done.

    Raises:
        FeatureError: if `path` exists and holds anything else, or no image can be read at all.
        ConfigurationError: if another process is extracting to `path`.
    """
    path = Path(path)
    if path.suffix != ".npy":
        raise FeatureError(f"{path}: a feature file's name must end in .npy")
    with exclusive_lock(path, path.with_suffix(".json"), _journal(path)), with_filename(path):
        return _extract(images, encoder, path, dtype, progress)


def _extract(
    images: Sequence[tuple[str, Path]],
    encoder: Encoder,
    path: Path,
    dtype: str,
    progress: Callable[[int, int], None],
) -> Features:
    if path.exists():
        existing = _existing(path, images, encoder, dtype)
        _journal(path).unlink(missing_ok=True)
        return existing
    if path.with_suffix(".json").exists() and not _partial(path).exists():
        raise FeatureError(f"{path.with_suffix('.json')}: exists, and is not of these features; give another name")
    job = {"encoder": encoder.info.to_dict(), "dtype": dtype}
    shape = (encoder.info.channels,) if encoder.info.cells == 1 else (encoder.info.cells, encoder.info.channels)
    offset = len(_header(0, shape, dtype))
    row_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize

    done = _read_journal(_journal(path), job, [name for name, _ in images])
    rows = sum(error is None for _, error in done)
    if done and (not _partial(path).exists() or _partial(path).stat().st_size < offset + rows * row_bytes):
        done, rows = [], 0
    if not done:
        _partial(path).write_bytes(_header(0, shape, dtype))
    # Written anew, for the last line of an interrupted run may be half a line.
    with atomic_write(_journal(path)) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in (job, *done)), encoding="utf-8")
    with open(_partial(path), "r+b") as data, open(_journal(path), "a", encoding="utf-8") as journal:
        data.truncate(offset + rows * row_bytes)
        data.seek(0, os.SEEK_END)
        remaining = images[len(done) :]
        loaded = encoder.info.preprocess.load_all(file for _, file in remaining)
        for batch in batched(zip((name for name, _ in remaining), loaded, strict=True), BATCH_SIZE):
            good = [pixels for _, pixels in batch if isinstance(pixels, np.ndarray)]
            if good:
                features = encoder.encode(np.stack(good)).astype(dtype)
                data.write(features.tobytes())
                data.flush()  # before the journal, which must never be ahead of the rows
            lines = [(name, None if isinstance(result, np.ndarray) else str(result)) for name, result in batch]
            journal.writelines(json.dumps(line) + "\n" for line in lines)
            journal.flush()
            done += lines
            progress(len(done), len(images))
        failed = [(name, error) for name, error in done if error is not None]
        if len(failed) == len(images):
            data.close()
            _partial(path).unlink()
            _journal(path).unlink()
            raise FeatureError(
                f"{path}: none of the {len(images)} images can be read: {failed[0][1] if failed else ''}"
            )
        data.seek(0)
        data.write(_header(len(done) - len(failed), shape, dtype))
        data.flush()
        os.fsync(data.fileno())
    description = {**job, "images": [name for name, error in done if error is None], "failed": failed}
    write_json(path.with_suffix(".json"), description)
    os.replace(_partial(path), path)
    _journal(path).unlink()
    return Features.open(path)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _journal(path: Path) -> Path:
    return path.with_name(path.name + ".partial.jsonl")


def _existing(path: Path, images: Sequence[tuple[str, Path]], encoder: Encoder, dtype: str) -> Features:
    features = Features.open(path)
    names = {name for name, _ in images}
    same = (
        features.encoder == encoder.info
        and features.array.dtype == dtype
        and features.images is not None
        and names == {*features.images, *(name for name, _ in features.failed)}
    )
    if not same:
        raise FeatureError(
            f"{path}: exists, and was made from other images or with another encoder or type; "
            "give another name, or remove it first"
        )
    return features


def _header(rows: int, shape: tuple[int, ...], dtype: str) -> bytes:
    # numpy leaves room for the first dimension to grow, so the header's size does not depend on `rows`.
    header = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    np.lib.format.write_array_header_1_0(header, {**description, "shape": (rows, *shape)})
    return header.getvalue()


def _read_journal(path: Path, job: dict[str, Any], names: list[str]) -> list[tuple[str, str | None]]:
    """Return the (name, error) lines of an interrupted run of the same job; none if it was of another."""
    done: list[tuple[str, str | None]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        if json.loads(lines[0]) != json.loads(json.dumps(job)):
            return []
    except (OSError, IndexError, ValueError):
        return []
    for line, expected in zip(lines[1:], names, strict=False):
        try:
            name, error = json.loads(line)
        except ValueError:  # the line that was being written when the run was stopped
            break
        if name != expected:
            return []
        done.append((name, error))
    return done


def _open_h5(path: Path) -> np.ndarray:
    h5py = import_extra("h5py", "reading .h5 files", "train")
    with h5py.File(path) as file:
        if "features" not in file:
            raise ValueError(f"it has no data set 'features', but {', '.join(file) or 'nothing'}")
        return memmap_dataset(path, file["features"])
