"""CIDEr-D (Vedantam et al., 2015, https://arxiv.org/abs/1411.5726), with the same results as coco-caption.

References are prepared once, so that CIDEr-D is fast enough as a training reward.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from showtell.errors import ShowtellError
from showtell.metrics.ngrams import ORDERS, Ngrams, Tokens, count_ngrams, group_codes

MAX_IMAGES = 10**12
SIGMA = 6.0  # of the Gaussian length penalty, in words


class DocumentFrequencies:
    """The number of images whose references contain each n-gram. CIDEr weights n-grams by it.

    Args:
        images: number of images that were counted.
        counts: n-gram, as words joined by spaces -> number of images. N-grams that occur in one image may be missing:
            as in coco-caption, an unknown n-gram counts as occurring in one image.

    Raises:
        ShowtellError: if there are no images, or a count is out of range.

    Examples:
        >>> frequencies = DocumentFrequencies.from_references([[["a", "dog"]], [["a", "cat"], ["a", "cat"]]])
        >>> frequencies.images, frequencies.counts
        (2, {'a': 2})
    """

    def __init__(self, images: int, counts: Mapping[str, int]):
        if not images >= 1:
            raise ShowtellError("no references: document frequencies need at least one image")
        for ngram, count in counts.items():
            if not 1 <= count <= images or len(ngram.split()) not in ORDERS:
                raise ShowtellError(f"invalid document frequency: {ngram[:100]!r} in {count} of {images} images")
        self.images = images
        self.counts = counts

    @classmethod
    def from_references(cls, references: Sequence[Sequence[Tokens]]) -> "DocumentFrequencies":
        """Count n-grams of tokenised references, one list per image."""
        captions = [caption for captions in references for caption in captions]
        image = np.repeat(np.arange(len(references)), list(map(len, references)))
        words = list(chain.from_iterable(captions))
        counts: dict[str, int] = {}
        for order, ngrams in zip(ORDERS, count_ngrams(captions), strict=True):
            _, once_per_image = np.unique(group_codes(ngrams.code, image[ngrams.caption]), return_index=True)
            _, first, images = np.unique(ngrams.code[once_per_image], return_index=True, return_counts=True)
            starts = ngrams.start[once_per_image][first]
            for start, count in zip(starts[images > 1].tolist(), images[images > 1].tolist(), strict=True):
                counts[" ".join(words[start : start + order])] = count
        return cls(len(references), counts)

    def most_common(self, max_ngrams: int) -> "DocumentFrequencies":
        """Return the frequencies of the most common n-grams, at most `max_ngrams`.

        N-grams with the same frequency are either all kept or all dropped. Dropped n-grams count as occurring in one
        image. They are rare, so scores change little.
        """
        descending = sorted(self.counts.values(), reverse=True)
        minimum = descending[max_ngrams] + 1 if len(descending) > max_ngrams else 1
        kept = {ngram: count for ngram, count in self.counts.items() if count >= minimum}
        return DocumentFrequencies(self.images, kept)

    @classmethod
    def from_json(cls, text: str | bytes) -> "DocumentFrequencies":
        """Read the result of `to_json`. Raises ShowtellError if the text is invalid."""
        try:
            content = json.loads(text)
            images, counts = content["images"], content["counts"]
            if any(type(number) is not int or number > MAX_IMAGES for number in (images, *counts.values())):
                raise ValueError(f"a number of images is not a whole number up to {MAX_IMAGES:,}")
            return cls(images, counts)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ShowtellError) as error:
            raise ShowtellError(f"invalid document frequencies: {error}; create them again") from None

    def to_json(self) -> str:
        """Return `images` and `counts` as compact JSON, most common n-grams first."""
        counts = dict(sorted(self.counts.items(), key=lambda item: (-item[1], item[0])))
        return json.dumps({"images": self.images, "counts": counts}, ensure_ascii=False, separators=(",", ":"))

    def idf(self, order: int, codes: np.ndarray) -> np.ndarray:
        """Return the inverse document frequency log(images / count), (K,), of n-grams.

        Args:
            order: length of the n-grams.
            codes: (K,) hashes of the n-grams, from `count_ngrams`.
        """
        known, counts = self._tables[order]
        if not len(known):
            return np.full(len(codes), np.log(self.images))
        positions = np.searchsorted(known, codes).clip(max=len(known) - 1)
        return np.log(self.images / np.where(known[positions] == codes, counts[positions], 1))

    @cached_property
    def _tables(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Order -> sorted n-gram hashes and their counts."""
        tables = {}
        split = [ngram.split() for ngram in self.counts]
        lengths = np.fromiter(map(len, split), np.int64, len(split))
        counts = np.fromiter(self.counts.values(), np.int64, len(split))
        for order, ngrams in zip(ORDERS, count_ngrams(split), strict=True):
            is_whole = lengths[ngrams.caption] == order
            codes = ngrams.code[is_whole]
            ascending = np.argsort(codes)
            tables[order] = codes[ascending], counts[ngrams.caption[is_whole]][ascending]
        return tables


class _ReferenceNgrams(NamedTuple):
    """The n-grams of one order in all references, sorted by key. A key is the hash of n-gram and image."""

    keys: np.ndarray
    captions: np.ndarray
    weights: np.ndarray
    norms: np.ndarray  # of each caption


class CiderD:
    """CIDEr-D against fixed references: the score that coco-caption and most papers call "CIDEr".

    The score is the cosine similarity of the tf-idf vectors of caption and reference, for n-grams of one to four words.
    Counts are clipped to those of the reference, and a Gaussian penalty (sigma 6) applies to the difference in length.
    The result is the mean over references and n-gram lengths, times 10.

    Args:
        references: tokenised references, one list per image.
        frequencies: document frequencies; by default those of `references`.

    Raises:
        ShowtellError: if an image has no reference.

    Examples:
        >>> cider = CiderD([[["a", "dog"]], [["a", "cat"]]])
        >>> cider.score([["a", "dog"], ["a", "dog"]]).tolist()
        [5.0, 0.0]
    """

    def __init__(self, references: Sequence[Sequence[Tokens]], frequencies: DocumentFrequencies | None = None):
        self._references_per_image = np.fromiter(map(len, references), np.int64, len(references))
        if not self._references_per_image.all():
            raise ShowtellError(f"image {int(self._references_per_image.argmin())} has no references; remove it")
        self.frequencies = frequencies or DocumentFrequencies.from_references(references)
        captions = [caption for captions in references for caption in captions]
        image = np.repeat(np.arange(len(references)), self._references_per_image)
        self._bigrams = _bigrams_per_caption(captions)
        self._tables = []
        for order, ngrams in zip(ORDERS, count_ngrams(captions), strict=True):
            weights, norms = self._weigh(order, ngrams, len(captions))
            keys = group_codes(ngrams.code, image[ngrams.caption])
            ascending = np.argsort(keys)
            self._tables.append(_ReferenceNgrams(keys[ascending], ngrams.caption[ascending], weights[ascending], norms))

    def score(self, candidates: Sequence[Tokens], images: ArrayLike | None = None) -> np.ndarray:
        """Return the score of each tokenised caption, (N,), between 0 and 10.

        Args:
            candidates: N captions.
            images: (N,) the index of each caption's image in the references. By default, caption i belongs to image i.
                Several captions may belong to one image.

        Raises:
            ShowtellError: if captions and images do not match.
        """
        rows = self._check_images(len(candidates), images)
        bigrams = _bigrams_per_caption(candidates)
        total = np.zeros(len(candidates))
        for order, ngrams, references in zip(ORDERS, count_ngrams(candidates), self._tables, strict=True):
            weights, norms = self._weigh(order, ngrams, len(candidates))
            # Pair every n-gram with each reference of its image that contains it.
            keys = group_codes(ngrams.code, rows[ngrams.caption])
            begin, end = np.searchsorted(references.keys, keys), np.searchsorted(references.keys, keys, side="right")
            pairs = end - begin
            left = np.repeat(np.arange(len(keys)), pairs)
            right = np.arange(len(left)) + np.repeat(begin - (pairs.cumsum() - pairs), pairs)
            candidate, reference = ngrams.caption[left], references.captions[right]
            clipped = np.minimum(weights[left], references.weights[right]) * references.weights[right]
            difference = bigrams[candidate] - self._bigrams[reference]
            penalty = np.exp(-(difference**2) / (2 * SIGMA**2))
            cosine = clipped * penalty / (norms[candidate] * references.norms[reference])
            total += np.bincount(candidate, cosine, minlength=len(candidates))
        return 10 * total / len(ORDERS) / self._references_per_image[rows]

    def _check_images(self, candidates: int, images: ArrayLike | None) -> np.ndarray:
        rows = np.arange(candidates) if images is None else np.asarray(images, dtype=np.intp)
        total = len(self._references_per_image)
        if rows.shape != (candidates,) or (images is None and len(rows) != total):
            raise ShowtellError(f"{candidates} captions do not match {total if images is None else len(rows)} images")
        if len(rows) and not 0 <= rows.min() <= rows.max() < total:
            raise ShowtellError(
                f"images {rows.min()} to {rows.max()} are out of range for references of {total} images"
            )
        return rows

    def _weigh(self, order: int, ngrams: Ngrams, captions: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the tf-idf weight of each n-gram, and the norm of each caption's vector (1 instead of 0)."""
        weights = ngrams.occurrences * self.frequencies.idf(order, ngrams.code)
        norms = np.sqrt(np.bincount(ngrams.caption, weights**2, minlength=captions))
        return weights, np.where(norms == 0, 1, norms)


def _bigrams_per_caption(captions: Sequence[Tokens]) -> np.ndarray:
    """Return the number of bigrams of each caption, which coco-caption uses as its length."""
    return np.fromiter((max(0, len(caption) - 1) for caption in captions), np.int64, len(captions))
