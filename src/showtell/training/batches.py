"""Batches for training: captions joined with the features of their images, bucketed by length."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from showtell.data import CaptionSplit, Features, Rows
from showtell.errors import FeatureError
from showtell.vocabulary import PAD, Vocabulary

# Batch widths are multiples of this, so that a backend that compiles for every shape compiles only a few.
WIDTH_STEP = 4


@dataclass(frozen=True)
class TrainingSplit:
    """One split, ready to train on or to validate with.

    Attributes:
        captions: (M, T) int32 token ids.
        feature_rows: (M,) the row of each caption's image in `features`.
        features: (N, G, D), of this and perhaps other splits.
        image_rows: rows of `features` that have captions.
        references: the captions of each image of `image_rows`, as text; read when they are asked for.
        images: the name of each image of `image_rows`.
    """

    captions: np.ndarray
    feature_rows: np.ndarray
    features: Rows
    image_rows: np.ndarray
    references: Sequence[list[str]]
    images: list[str]

    def of_images(self, positions: np.ndarray) -> "TrainingSplit":
        """Return the part that belongs to the images at `positions` of `image_rows`."""
        rows = self.image_rows[positions]
        kept = np.isin(self.feature_rows, rows)
        return replace(
            self,
            captions=self.captions[kept],
            feature_rows=self.feature_rows[kept],
            image_rows=rows,
            references=[self.references[position] for position in positions],
            images=[self.images[position] for position in positions],
        )

    def with_features(self, features: Rows) -> "TrainingSplit":
        """Return the split with other features (N, G, D), a row for each of `images`, in their order."""
        position = {row: place for place, row in enumerate(self.image_rows.tolist())}
        rows = np.array([position[row] for row in self.feature_rows.tolist()])
        return replace(self, features=features, feature_rows=rows, image_rows=np.arange(len(self.images)))


class References(Sequence[list[str]]):
    """People's captions of images, each image's read when it is asked for.

    Args:
        positions: (M,) where each caption's text is.
        rows: (M,) the row of each caption's image; images come in the order of their rows.
        text: returns the text at a position.
    """

    def __init__(self, positions: np.ndarray, rows: np.ndarray, text: Callable[[int], str]):
        order = np.argsort(rows, kind="stable")
        _, starts = np.unique(rows[order], return_index=True)
        self._positions = positions[order]
        self._bounds = np.append(starts, len(rows))
        self._text = text

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, image: Any) -> Any:
        """Return the captions of an image."""
        image = range(len(self))[image]
        return [self._text(position) for position in self._positions[slice(*self._bounds[image : image + 2])].tolist()]


def join(split: CaptionSplit, features: Features, vocabulary: Vocabulary, skip_missing: bool = False) -> TrainingSplit:
    """Join captions with features: by image name where both files give names, else by row.

    Raises:
        FeatureError: if images have no features, and `skip_missing` is false; or none has.
    """
    captions, rows = split.captions, split.image_rows
    if split.images is not None and features.images is not None:
        row_of_name = {name: row for row, name in enumerate(features.images)}
        row_of_image = np.array([row_of_name.get(name, -1) for name in split.images])
        missing = [name for name, row in zip(split.images, row_of_image, strict=True) if row < 0]
        if missing and (not skip_missing or len(missing) == len(split.images)):
            raise FeatureError(
                f"{len(missing)} of {len(split.images)} captioned images have no features, {missing[0]} first; "
                "extract them from the right folder, or leave those images out with --skip-missing"
            )
        rows = row_of_image[rows]
    elif rows.max(initial=-1) >= len(features.array):
        raise FeatureError(
            f"captions name image row {rows.max()}, but the feature file has {len(features.array)} rows; "
            "it must be the file that the captions were made for"
        )
    kept = rows >= 0
    positions = np.flatnonzero(kept)
    if len(positions) < len(rows):  # or else captions stay mapped
        captions, rows = captions[positions], rows[positions]
    texts, ids = split.texts, split.captions
    references = References(
        positions, rows, texts.__getitem__ if texts is not None else lambda position: vocabulary.decode(ids[position])
    )
    image_rows = np.unique(rows).astype(np.int64)
    names = features.images or [str(row) for row in range(len(features.array))]
    images = [names[row] for row in image_rows.tolist()]
    return TrainingSplit(captions, rows, features.array, image_rows, references, images)


class Batches:
    """The batches of one epoch, in an order that seed and epoch alone decide.

    Captions of like length share a batch, cut to the longest of them; the order of batches is shuffled. Every batch is
    full: what lacks in the last one is taken from the beginning of the order.

    Args:
        split: what to train on.
        batch_size: captions a batch; at most all of them.
        seed: seed of the order.
        epoch: the epoch, from 0; None keeps captions in order of length, for validation.
        first: batches to leave out at the beginning, for an epoch that was interrupted.
    """

    def __init__(self, split: TrainingSplit, batch_size: int, seed: int = 0, epoch: int | None = None, first: int = 0):
        self._split = split
        lengths = (split.captions != PAD).sum(axis=1)
        widths = -(-lengths // WIDTH_STEP) * WIDTH_STEP
        generator = np.random.default_rng((seed, epoch or 0))
        order = np.arange(len(lengths)) if epoch is None else generator.permutation(len(lengths))
        batch_size = min(batch_size, len(lengths))
        order = np.resize(order, batches_in(len(lengths), batch_size) * batch_size)
        order = order[np.argsort(widths[order], kind="stable")].reshape(-1, batch_size)
        if epoch is not None:
            order = generator.permutation(order)
        self._order = order[first:]
        self._widths = np.minimum(widths[self._order].max(axis=1), split.captions.shape[1])

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        """Yield ({"features": (N, G, D), "tokens": (N, T)}, targets (N, T))."""
        for chosen, width in zip(self._order, self._widths, strict=True):
            captions = self._split.captions[chosen, :width]
            features = self._split.features[self._split.feature_rows[chosen]].astype(np.float32)
            yield {"features": features, "tokens": captions[:, :-1]}, captions[:, 1:]


def batches_in(captions: int, batch_size: int) -> int:
    """Return how many batches an epoch has."""
    return -(-captions // batch_size)


def sample_rows(split: TrainingSplit, count: int, seed: Sequence[int]) -> np.ndarray:
    """Return positions in `split.image_rows` of `count` random images, the same for the same seed."""
    count = min(count, len(split.image_rows))
    return np.random.default_rng(seed).choice(len(split.image_rows), count, replace=False)
