"""Batches for training: captions joined with the features of their images, bucketed by length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from showtell.data import CaptionSplit, Features, Rows
from showtell.errors import FeatureError
from showtell.vocabulary import PAD, Vocabulary

# Batch widths are multiples of this, because a backend may compile each shape separately.
WIDTH_STEP = 4


@dataclass(frozen=True)
class TrainingSplit:
    """The captions and features of one split.

    Attributes:
        captions: (M, T) int32 token ids.
        feature_rows: (M,) the row in `features` of each caption's image.
        features: (N, G, D) features; may include images of other splits.
        image_rows: (I,) the rows of `features` whose images have captions in this split.
        references: the captions of each of the I images as text.
        images: the names of the I images.
    """

    captions: np.ndarray
    feature_rows: np.ndarray
    features: Rows
    image_rows: np.ndarray
    references: Sequence[Sequence[str]]
    images: Sequence[str]

    def select_images(self, positions: np.ndarray) -> "TrainingSplit":
        """Return the part of the split with the images at `positions` of `image_rows`."""
        rows = self.image_rows[positions]
        selected = np.isin(self.feature_rows, rows)
        return replace(
            self,
            captions=self.captions[selected],
            feature_rows=self.feature_rows[selected],
            image_rows=rows,
            references=[self.references[position] for position in positions],
            images=[self.images[position] for position in positions],
        )

    def with_features(self, features: Rows) -> "TrainingSplit":
        """Return the split with other features (I, G, D), one row for each of `images` in order."""
        new_row = {row: position for position, row in enumerate(self.image_rows.tolist())}
        rows = np.array([new_row[row] for row in self.feature_rows.tolist()])
        return replace(self, features=features, feature_rows=rows, image_rows=np.arange(len(self.images)))


def join_features(
    split: CaptionSplit, features: Features, vocabulary: Vocabulary, skip_missing: bool = False
) -> TrainingSplit:
    """Join captions with the features of their images: by image name if both files contain names, otherwise by row.

    Args:
        split: the captions.
        features: the features.
        vocabulary: the vocabulary of the captions.
        skip_missing: skip captioned images without features instead of raising an error.

    Raises:
        FeatureError: if images have no features and `skip_missing` is false, or if no image has features.
    """
    rows = _find_feature_rows(split, features, skip_missing)
    captions, texts = split.captions, split.texts
    selected = np.flatnonzero(rows >= 0)
    if len(selected) < len(rows):  # indexing would copy memory-mapped captions
        captions, rows = captions[selected], rows[selected]
        texts = texts and tuple(texts[position] for position in selected.tolist())
    if texts is None:
        texts = tuple(map(vocabulary.decode, captions))
    image_rows = np.unique(rows).astype(np.int64)
    names = features.images or [str(row) for row in range(len(features.array))]
    images = [names[row] for row in image_rows.tolist()]
    return TrainingSplit(captions, rows, features.array, image_rows, _group_by_image(texts, rows), images)


def _find_feature_rows(split: CaptionSplit, features: Features, skip_missing: bool) -> np.ndarray:
    """Return the row (M,) in the features of each caption's image, -1 if it is missing."""
    if split.images is not None and features.images is not None:
        row_of_name = {name: row for row, name in enumerate(features.images)}
        row_of_image = np.array([row_of_name.get(name, -1) for name in split.images])
        missing = [name for name, row in zip(split.images, row_of_image, strict=True) if row < 0]
        if missing and (not skip_missing or len(missing) == len(split.images)):
            raise FeatureError(
                f"{len(missing)} of {len(split.images)} captioned images have no features, for example {missing[0]}; "
                "extract the features from the right folder, or skip these images with --skip-missing"
            )
        return row_of_image[split.image_rows]
    if split.image_rows.max(initial=-1) >= len(features.array):
        raise FeatureError(
            f"the captions refer to image row {split.image_rows.max()}, but the feature file has "
            f"{len(features.array)} rows; pass the feature file that belongs to the captions"
        )
    return split.image_rows


def _group_by_image(texts: Sequence[str], rows: np.ndarray) -> list[list[str]]:
    """Return the texts of each image, ordered by image row."""
    groups: dict[int, list[str]] = {}
    for text, row in zip(texts, rows.tolist(), strict=True):
        groups.setdefault(row, []).append(text)
    return [groups[row] for row in sorted(groups)]


class Batches:
    """The batches of one epoch. Their order depends on the seed and the epoch only.

    Captions of similar length share a batch, which is truncated to the longest of them. The order of the batches is
    random. Every batch is full: the last one is filled with captions from the start of the order.

    Args:
        split: the captions and features.
        batch_size: captions per batch; reduced to the number of captions.
        seed: seed of the order.
        epoch: the epoch, from 0; None orders the batches by length, for validation.
        first: the first batch, to continue an interrupted epoch.
    """

    def __init__(self, split: TrainingSplit, batch_size: int, seed: int = 0, epoch: int | None = None, first: int = 0):
        self._split = split
        lengths = (split.captions != PAD).sum(axis=1)
        widths = -(-lengths // WIDTH_STEP) * WIDTH_STEP
        generator = np.random.default_rng((seed, epoch or 0))
        order = np.arange(len(lengths)) if epoch is None else generator.permutation(len(lengths))
        batch_size = min(batch_size, len(lengths))
        order = np.resize(order, count_batches(len(lengths), batch_size) * batch_size)
        order = order[np.argsort(widths[order], kind="stable")].reshape(-1, batch_size)
        if epoch is not None:
            order = generator.permutation(order)
        self._order = order[first:]
        self._widths = np.minimum(widths[self._order].max(axis=1), split.captions.shape[1])

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        """Yield ({"features": (N, G, D), "tokens": (N, T)}, targets (N, T))."""
        for rows, width in zip(self._order, self._widths, strict=True):
            captions = self._split.captions[rows, :width]
            features = self._split.features[self._split.feature_rows[rows]].astype(np.float32)
            yield {"features": features, "tokens": captions[:, :-1]}, captions[:, 1:]


def count_batches(captions: int, batch_size: int) -> int:
    """Return the number of batches per epoch."""
    return -(-captions // batch_size)


def sample_images(split: TrainingSplit, count: int, seed: Sequence[int]) -> np.ndarray:
    """Return positions in `split.image_rows` of `count` random images, always the same for a seed."""
    count = min(count, len(split.image_rows))
    return np.random.default_rng(seed).choice(len(split.image_rows), count, replace=False)
