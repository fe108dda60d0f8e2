"""Counting n-grams of many captions at once with NumPy."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

import numpy as np

# The n-gram lengths of BLEU-4 and CIDEr.
ORDERS = (1, 2, 3, 4)

# The tokens of a caption.
Tokens = Sequence[str]


class Ngrams(NamedTuple):
    """The K distinct n-grams of each caption, as parallel arrays (K,).

    Attributes:
        caption: index of the caption.
        code: uint64 hash of the n-gram.
        occurrences: number of occurrences in the caption.
        start: index of the first occurrence in the concatenated tokens of all captions.
    """

    caption: np.ndarray
    code: np.ndarray
    occurrences: np.ndarray
    start: np.ndarray


# Odd multipliers with random bits, so that hashes of different n-grams and groups rarely collide.
_NGRAM_FACTOR = np.uint64(0xD1342543DE82EF95)
_GROUP_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def count_ngrams(captions: Sequence[Tokens]) -> Iterator[Ngrams]:
    """Yield the n-grams of captions for each n of `ORDERS`.

    The 64-bit hash of an n-gram combines the hashes of its words. With ten million different n-grams, one data set in
    400,000 is expected to contain a collision.
    """
    lengths = np.fromiter(map(len, captions), np.int64, len(captions))
    caption = np.repeat(np.arange(len(captions)), lengths)
    ends = lengths.cumsum()[caption]
    words = np.fromiter(map(_hash_word, chain.from_iterable(captions)), np.uint64, len(caption))
    start, code = np.arange(len(words)), words
    for order in ORDERS:
        _, first, occurrences = np.unique(group_codes(code, caption[start]), return_index=True, return_counts=True)
        yield Ngrams(caption[start[first]], code[first], occurrences, start[first])
        has_next = start + order < ends[start]
        start = start[has_next]
        code = code[has_next] * _NGRAM_FACTOR + words[start + order]


def group_codes(codes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Combine n-gram hashes (K,) with group numbers (K,), such as the image of each n-gram."""
    return codes + groups.astype(np.uint64) * _GROUP_FACTOR


@lru_cache(maxsize=1 << 20)
def _hash_word(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
