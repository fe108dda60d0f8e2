"""Feature files: one row of encoder output per image, extracted once and memory-mapped afterwards.

`NAME.npy` holds the rows: (N, D) for pooled features, (N, G, D) for a grid. `NAME.json` records the encoder and the
image of each row. During an extraction the rows are in `NAME.npy.partial`; see `extraction`.

Features of large data sets are a folder of such files: the shards `NUMBER-of-TOTAL.npy`, see the package `ray`.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from showtell.encoder import EncoderInfo
from showtell.errors import FeatureError, import_extra
from showtell.utils.files import memmap_dataset


class Rows(Protocol):
    """The part of the array interface that training needs; the rows (N, G, D) may be in several files."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (N, G, D)."""

    @property
    def dtype(self) -> np.dtype:
        """The type of the values."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """Return rows (K, G, D) for indices (K,) int."""
        ...


class JoinedRows:
    """Several arrays (N_i, G, D) of one type that are indexed like one array. Only the requested rows are copied."""

    def __init__(self, arrays: Sequence[np.ndarray]):
        # Indexing a plain array is ten times as fast as indexing a numpy.memmap, and the file stays mapped.
        self._arrays = [np.asarray(array) for array in arrays]
        self._ends = np.cumsum([len(array) for array in arrays])
        self.shape = (int(self._ends[-1]), *arrays[0].shape[1:])
        self.dtype = arrays[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """Return rows (K, G, D) for indices (K,) int. Raises IndexError if an index is out of range."""
        rows = np.asarray(rows)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        result = np.empty((len(rows), *self.shape[1:]), self.dtype)
        array_of_row = np.searchsorted(self._ends, rows, side="right")
        for index in np.unique(array_of_row):
            selected = array_of_row == index
            array = self._arrays[index]
            result[selected] = array[rows[selected] - (self._ends[index] - len(array))]
        return result


@dataclass(frozen=True)
class Features:
    """Features of many images.

    Attributes:
        array: (N, G, D), memory-mapped if the file is not compressed.
        images: the image file name of each row; None if unknown (files of other programs).
        encoder: the encoder of the features; None if unknown.
        failed: unreadable images with the reason. They have no row.
    """

    array: Rows
    images: tuple[str, ...] | None = None
    encoder: EncoderInfo | None = None
    failed: tuple[tuple[str, str], ...] = ()

    @classmethod
    def open(cls, path: str | Path) -> "Features":
        """Open a feature file or a folder of shards.

        Args:
            path: `NAME.npy` with an optional `NAME.json`, an `.h5` file with a data set `features`, or a folder.

        Raises:
            FeatureError: if the file or a shard is missing, damaged, or does not match its `.json`.
            MismatchError: if the shards have different encoders.
        """
        path = Path(path)
        if path.is_dir():
            return _open_shards(path)
        if not path.exists():
            hint = "create it with `showtell extract`"
            if partial_path(path).exists():
                hint = "the extraction is incomplete; run the same command again to resume it"
            raise FeatureError(f"{path}: no such feature file; {hint}")
        try:
            array = _open_h5(path) if path.suffix in (".h5", ".hdf5") else np.load(path, mmap_mode="r")
            if array.ndim == 2:
                array = array[:, None, :]
            if array.ndim != 3 or array.dtype.kind != "f":
                raise ValueError(f"it contains {array.dtype} of shape {array.shape}")
            description = path.with_suffix(".json")
            if not description.exists():
                return cls(array)
            fields = json.loads(description.read_text(encoding="utf-8"))
            images = tuple(fields["images"])
            if len(images) != len(array):
                raise ValueError(f"{description} names {len(images)} images for {len(array)} rows")
            failed = tuple((name, reason) for name, reason in fields["failed"])
            return cls(array, images, EncoderInfo.from_dict(fields["encoder"]), failed)
        except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
            raise FeatureError(f"{path}: not a usable feature file: {error}; extract the features again") from None


def partial_path(path: Path) -> Path:
    """Return the path of the rows of an unfinished extraction."""
    return path.with_name(path.name + ".partial")


def _open_shards(folder: Path) -> Features:
    paths = sorted(folder.glob("*.npy"))
    _require_all_shards(folder, paths)
    shards = [Features.open(path) for path in paths]
    first = shards[0]
    images: list[str] = []
    for path, shard in zip(paths, shards, strict=True):
        if shard.images is None or shard.encoder is None or first.encoder is None:
            raise FeatureError(f"{path}: the shard has no .json with encoder and images; extract the features again")
        shard.encoder.require_same(first.encoder, str(path), str(paths[0]))
        if (shard.array.shape[1:], shard.array.dtype) != (first.array.shape[1:], first.array.dtype):
            raise FeatureError(f"{path}: shape or type differs from {paths[0].name}; extract the features again")
        images += shard.images
    if len(set(images)) < len(images):
        duplicate = next(name for name, count in Counter(images).items() if count > 1)
        raise FeatureError(f"{folder}: image {duplicate!r} occurs twice; image names must be unique")
    array = JoinedRows([np.asarray(shard.array) for shard in shards])
    return Features(array, tuple(images), first.encoder, tuple(failed for shard in shards for failed in shard.failed))


def _require_all_shards(folder: Path, paths: Sequence[Path]) -> None:
    if not paths and (folder / "features").is_dir():
        raise FeatureError(f"{folder}: no feature files in this folder; pass {folder / 'features'}")
    if not paths:
        raise FeatureError(f"{folder}: no feature files in this folder; create them with `showtell ray extract`")
    total = re.fullmatch(r"\d+-of-(\d+)", paths[0].stem)
    if total and len(paths) != int(total[1]):
        raise FeatureError(
            f"{folder}: only {len(paths)} of {int(total[1])} shards exist; "
            "run `showtell ray extract` with the same options again to resume the extraction"
        )


def _open_h5(path: Path) -> np.ndarray:
    h5py = import_extra("h5py", "reading .h5 files", "train")
    with h5py.File(path) as file:
        if "features" not in file:
            raise ValueError(f"it has no data set 'features'; its data sets are: {', '.join(file) or 'none'}")
        return memmap_dataset(path, file["features"])
