"""ROUGE-L (Lin and Och, 2004, https://aclanthology.org/P04-1077), with the same results as coco-caption."""

from collections.abc import Sequence

import numpy as np

from showtell.metrics.ngrams import Tokens

BETA = 1.2


def rouge_l(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """Return ROUGE-L of each image, (N,), between 0 and 1. The score of a data set is their mean.

    As in coco-caption, beta is 1.2, and the best precision and the best recall may come from different references.

    Args:
        candidates: N tokenised captions.
        references: the tokenised reference captions of each image.

    Examples:
        >>> rouge_l([["a", "dog", "runs"]], [[["a", "dog", "often", "runs"]]]).round(3).tolist()
        [0.836]
    """
    scores = np.zeros(len(candidates))
    for index, (candidate, captions) in enumerate(zip(candidates, references, strict=True)):
        common = [_longest_common_subsequence(candidate, caption) for caption in captions]
        if any(common):
            precision = max(common) / len(candidate)
            recall = max(length / max(1, len(caption)) for length, caption in zip(common, captions, strict=True))
            scores[index] = (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
    return scores


def _longest_common_subsequence(first: Tokens, second: Tokens) -> int:
    """Return the length of the longest common subsequence.

    Uses the bit-parallel algorithm of Hyyrö (2004): each zero bit stands for one common token.
    """
    positions: dict[str, int] = {}
    for index, word in enumerate(first):
        positions[word] = positions.get(word, 0) | 1 << index
    all_ones = (1 << len(first)) - 1
    row = all_ones
    for word in second:
        matches = row & positions.get(word, 0)
        row = (row + matches) | (row - matches)
    return len(first) - (row & all_ones).bit_count()
