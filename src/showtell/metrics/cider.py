"""CIDEr and CIDEr-D with prepared references and document frequencies, for evaluation and as a training reward."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from showtell.errors import ShowtellError

ORDERS = (1, 2, 3, 4)  # n of the n-grams, for BLEU and CIDEr alike

Tokens = Sequence[str]


class DocumentFrequencies:
    """In the references of how many images each n-gram occurs; CIDEr weighs n-grams by it.

    Attributes:
        images: how many images were counted.
        counts: n-gram, its words joined by blanks -> number of images. An n-gram of one image may be missing: like
            coco-caption, this class does not tell it from one that was never seen.
    """

    def __init__(self, images: int, counts: Mapping[str, int]):
        """Raises ShowtellError if there is no image, or a count cannot be."""
        if not images >= 1:
            raise ShowtellError("no references: document frequencies need at least one image")
        for ngram, count in counts.items():
            if not 1 <= count <= images or len(ngram.split()) not in ORDERS:
                raise ShowtellError(f"{ngram!r} in {count} of {images} images cannot be a document frequency")
        self.images = images
        self.counts = counts

    @classmethod
    def from_references(cls, references: Sequence[Sequence[Tokens]]) -> "DocumentFrequencies":
        """Count in tokenised references, one list per image."""
        captions = [caption for captions in references for caption in captions]
        image = np.repeat(np.arange(len(references)), list(map(len, references)))
        words = list(chain.from_iterable(captions))
        counts: dict[str, int] = {}
        for order, found in zip(ORDERS, _count_ngrams(captions), strict=True):
            _, once_per_image = np.unique(_tagged(found.code, image[found.caption]), return_index=True)
            _, first, images = np.unique(found.code[once_per_image], return_index=True, return_counts=True)
            starts = found.start[once_per_image][first]
            for start, count in zip(starts[images > 1].tolist(), images[images > 1].tolist(), strict=True):
                counts[" ".join(words[start : start + order])] = count
        return cls(len(references), counts)

    def commonest(self, ngrams: int) -> "DocumentFrequencies":
        """Return those of the n-grams that are in at least k images, for the smallest k that leaves `ngrams` or fewer.

        The others then count as in one image; as they were rare anyhow, that changes scores little.
        """
        falling = sorted(self.counts.values(), reverse=True)
        least = falling[ngrams] + 1 if len(falling) > ngrams else 1
        kept = {ngram: count for ngram, count in self.counts.items() if count >= least}
        return DocumentFrequencies(self.images, kept)

    @classmethod
    def from_json(cls, text: str | bytes) -> "DocumentFrequencies":
        """Read what `to_json` gave. Raises ShowtellError if the text is something else."""
        try:
            content = json.loads(text)
            return cls(content["images"], content["counts"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ShowtellError) as error:
            raise ShowtellError(f"these are no document frequencies ({error}); make them anew") from None

    def to_json(self) -> str:
        """Return `images` and `counts` as compact JSON, the commonest n-grams first."""
        counts = dict(sorted(self.counts.items(), key=lambda item: (-item[1], item[0])))
        return json.dumps({"images": self.images, "counts": counts}, ensure_ascii=False, separators=(",", ":"))

    def _rarity(self, order: int, codes: np.ndarray) -> np.ndarray:
        """Return log(images / frequency) for the n-grams of length `order` with these codes."""
        known, counts = self._tables[order]
        if not len(known):
            return np.full(len(codes), np.log(self.images))
        places = np.searchsorted(known, codes).clip(max=len(known) - 1)
        return np.log(self.images / np.where(known[places] == codes, counts[places], 1))

    @cached_property
    def _tables(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        tables = {}
        ngrams = [ngram.split() for ngram in self.counts]
        lengths = np.fromiter(map(len, ngrams), np.int64, len(ngrams))
        counts = np.fromiter(self.counts.values(), np.int64, len(ngrams))
        for order, found in zip(ORDERS, _count_ngrams(ngrams), strict=True):
            whole = lengths[found.caption] == order
            code = found.code[whole]
            ascending = np.argsort(code)
            tables[order] = code[ascending], counts[found.caption[whole]][ascending]
        return tables


class CiderD:
    """CIDEr-D against fixed references: what coco-caption, and with it nearly all papers, report as "CIDEr".

    Vedantam et al. 2015: the cosine of the tf-idf vectors of candidate and reference, for n-grams of one to four words,
    with counts clipped to the reference's and a Gaussian penalty (sigma 6) on a difference in length; the mean over
    references and n-gram lengths, times 10.

    References are prepared once, so that `score` is fast enough to be a training reward.
    """

    def __init__(self, references: Sequence[Sequence[Tokens]], frequencies: DocumentFrequencies | None = None):
        """Prepare tokenised references, one list per image.

        `frequencies` are by default those of `references`. Raises ShowtellError if an image has no reference.
        """
        self._references_per_image = np.fromiter(map(len, references), np.int64, len(references))
        if not self._references_per_image.all():
            raise ShowtellError(f"image {int(self._references_per_image.argmin())} has no references; leave it out")
        self.frequencies = frequencies or DocumentFrequencies.from_references(references)
        captions = [caption for captions in references for caption in captions]
        image = np.repeat(np.arange(len(references)), self._references_per_image)
        self._bigrams = _bigrams_per_caption(captions)
        self._tables = []
        for order, found in zip(ORDERS, _count_ngrams(captions), strict=True):
            weight, norm = self._weigh(order, found, len(captions))
            key = _tagged(found.code, image[found.caption])
            ascending = np.argsort(key)
            self._tables.append((key[ascending], found.caption[ascending], weight[ascending], norm))

    def score(self, candidates: Sequence[Tokens], images: ArrayLike | None = None) -> np.ndarray:
        """Return the score of each tokenised candidate, (N,), between 0 and 10.

        Args:
            candidates: N captions.
            images: for each candidate the row of its image in the references, (N,); by default candidate i belongs to
                image i. Several candidates may belong to one image.

        Raises:
            ShowtellError: if candidates and images do not match.
        """
        rows = np.arange(len(candidates)) if images is None else np.asarray(images, dtype=np.intp)
        documents = len(self._references_per_image)
        if rows.shape != (len(candidates),) or (images is None and len(rows) != documents):
            raise ShowtellError(f"{len(candidates)} captions for {documents if images is None else len(rows)} images")
        if len(rows) and not 0 <= rows.min() <= rows.max() < documents:
            raise ShowtellError(f"image rows {rows.min()} to {rows.max()}: there are references for {documents} images")

        bigrams = _bigrams_per_caption(candidates)
        total = np.zeros(len(candidates))
        for order, found in zip(ORDERS, _count_ngrams(candidates), strict=True):
            weight, norm = self._weigh(order, found, len(candidates))
            keys, captions, reference_weight, reference_norm = self._tables[order - 1]
            # An n-gram that is in several references of its image meets each of them.
            key = _tagged(found.code, rows[found.caption])
            begin, end = np.searchsorted(keys, key), np.searchsorted(keys, key, side="right")
            meetings = end - begin
            mine = np.repeat(np.arange(len(key)), meetings)
            theirs = np.arange(len(mine)) + np.repeat(begin - (meetings.cumsum() - meetings), meetings)
            candidate, reference = found.caption[mine], captions[theirs]
            product = self._product(
                weight[mine], reference_weight[theirs], bigrams[candidate] - self._bigrams[reference]
            )
            cosine = product / (norm[candidate] * reference_norm[reference])
            total += np.bincount(candidate, cosine, minlength=len(candidates))
        return 10 * total / len(ORDERS) / self._references_per_image[rows]

    def _weigh(self, order: int, found: "_Ngrams", captions: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the tf-idf of each n-gram and the norm of each caption's vector, 1 where it is 0."""
        weight = found.occurrences * self.frequencies._rarity(order, found.code)
        norm = np.sqrt(np.bincount(found.caption, weight**2, minlength=captions))
        return weight, np.where(norm == 0, 1, norm)

    def _product(self, candidate: np.ndarray, reference: np.ndarray, bigrams_more: np.ndarray) -> np.ndarray:
        return np.minimum(candidate, reference) * reference * np.exp(-(bigrams_more**2) / (2 * 6.0**2))


class PlainCider(CiderD):
    """CIDEr as first defined by Vedantam et al. 2015: no clipping, no penalty on length. Hardly anyone reports it.

    It is easily gamed by repetition. Times 10 like CIDEr-D; words are not stemmed.
    """

    def _product(self, candidate: np.ndarray, reference: np.ndarray, bigrams_more: np.ndarray) -> np.ndarray:
        return candidate * reference


class _Ngrams(NamedTuple):
    """The distinct n-grams of each caption, as parallel arrays."""

    caption: np.ndarray  # whose it is
    code: np.ndarray
    occurrences: np.ndarray  # how often it is there
    start: np.ndarray  # where it first begins in all captions' words joined


# Odd multipliers with no pattern in their bits, so that different n-grams and owners do not meet.
_NGRAM_FACTOR = np.uint64(0xD1342543DE82EF95)
_OWNER_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def _count_ngrams(captions: Sequence[Tokens]) -> Iterator[_Ngrams]:
    """Yield the n-grams of one word, then of two, three and four.

    An n-gram is known by a 64-bit code made of its words' hashes: among ten million n-grams, two that share a code are
    to be expected once in 400,000 data sets.
    """
    lengths = np.fromiter(map(len, captions), np.int64, len(captions))
    owner = np.repeat(np.arange(len(captions)), lengths)
    ends = lengths.cumsum()[owner]
    words = np.fromiter(map(_word_code, chain.from_iterable(captions)), np.uint64, len(owner))
    start, code = np.arange(len(words)), words
    for order in ORDERS:
        _, first, occurrences = np.unique(_tagged(code, owner[start]), return_index=True, return_counts=True)
        yield _Ngrams(owner[start[first]], code[first], occurrences, start[first])
        longer = start + order < ends[start]
        start = start[longer]
        code = code[longer] * _NGRAM_FACTOR + words[start + order]


def _tagged(code: np.ndarray, owner: np.ndarray) -> np.ndarray:
    return code + owner.astype(np.uint64) * _OWNER_FACTOR


@lru_cache(maxsize=1 << 20)
def _word_code(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")


def _bigrams_per_caption(captions: Sequence[Tokens]) -> np.ndarray:
    return np.fromiter((max(0, len(caption) - 1) for caption in captions), np.int64, len(captions))
