"""BLEU (Papineni et al., 2002, https://aclanthology.org/P02-1040), with the same results as coco-caption."""

from collections import Counter
from collections.abc import Sequence
from functools import reduce
from operator import or_

import numpy as np

from showtell.metrics.ngrams import ORDERS, Tokens


def bleu(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> tuple[np.ndarray, np.ndarray]:
    """Return BLEU-1 to BLEU-4 of the corpus, (4,), and of each image, (N, 4), between 0 and 1.

    The brevity penalty uses the closest reference length, and the shorter one of two equally close lengths. As in
    coco-caption, the counts are smoothed with tiny constants, so a score without matches is not exactly 0.

    Args:
        candidates: N tokenised captions.
        references: the tokenised reference captions of each image, at least one per image.

    Examples:
        >>> corpus, per_image = bleu([["a", "dog", "runs"]], [[["a", "dog", "sits"], ["a", "cat"]]])
        >>> corpus.round(2).tolist()
        [0.67, 0.58, 0.0, 0.0]
    """
    counts = bleu_counts(candidates, references)
    return bleu_from_counts(counts.sum(axis=0)), bleu_from_counts(counts)


def bleu_counts(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """Return the counts (N, 10) int64 that BLEU is computed from. The counts of a corpus are their sum.

    The columns are the length of the caption, the length of the closest reference, the matched n-grams of orders 1 to
    4, and all n-grams of orders 1 to 4.
    """
    rows = np.zeros((len(candidates), 2 + 2 * len(ORDERS)), dtype=np.int64)
    for row, candidate, captions in zip(rows, candidates, references, strict=True):
        length = len(candidate)
        row[:2] = length, min((abs(len(caption) - length), len(caption)) for caption in captions)[1]
        for order in ORDERS:
            allowed = reduce(or_, (_count_ngrams(caption, order) for caption in captions))
            row[1 + order] = (_count_ngrams(candidate, order) & allowed).total()
            row[5 + order] = max(0, length - order + 1)
    return rows


def bleu_from_counts(counts: np.ndarray) -> np.ndarray:
    """Return BLEU-1 to BLEU-4, (.., 4), from counts (.., 10)."""
    length, closest, matched, total = np.split(counts, (1, 2, 6), axis=-1)
    precision = (matched + 1e-15) / (total + 1e-9)
    ratio = (length + 1e-15) / (closest + 1e-9)
    return np.cumprod(precision, axis=-1) ** (1 / np.array(ORDERS)) * np.exp(np.minimum(0, 1 - 1 / ratio))


def _count_ngrams(tokens: Tokens, order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[skip:] for skip in range(order)), strict=False))
