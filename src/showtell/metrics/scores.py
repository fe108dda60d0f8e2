"""How good captions are: BLEU, ROUGE-L and CIDEr, equal to those of coco-caption but without Java.

`evaluate` scores text; METEOR, for which it starts Java, must be asked for. Everything else takes tokens (see
`tokenize`), one sequence of words per caption.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import pairwise
from operator import or_

import numpy as np

from showtell.errors import ShowtellError
from showtell.metrics import meteor as metrics_meteor
from showtell.metrics.cider import ORDERS, CiderD, DocumentFrequencies, PlainCider, Tokens
from showtell.metrics.tokenizer import tokenize

__all__ = ["CiderD", "DocumentFrequencies", "PlainCider", "Scores", "bleu", "rouge_l", "score_captions", "tokenize"]


@dataclass(frozen=True)
class Scores:
    """Scores of a set of captions. BLEU, ROUGE-L, CIDEr and METEOR are times 100, as papers print them.

    Attributes:
        bleu_1: corpus BLEU of single words, bleu_2 to bleu_4 of n-grams up to that length.
        rouge_l: mean over images.
        cider: CIDEr-D, which is what coco-caption and nearly all papers call CIDEr; mean over images.
        distinct: share of captions that differ, from 1/N (all the same) to 1.
        repeated_bigrams: share of captions in which two words in a row come again.
        mean_length: tokens per caption.
        per_image: the CIDEr of each image.
        notes: plain words on what explains a score of zero or a suspicious set of captions.
        meteor: METEOR of the whole, if it was asked for.
        meteor_per_image: likewise.
    """

    bleu_1: float
    bleu_2: float
    bleu_3: float
    bleu_4: float
    rouge_l: float
    cider: float
    distinct: float
    repeated_bigrams: float
    mean_length: float
    per_image: Mapping[str, float]
    notes: tuple[str, ...]
    meteor: float | None = None
    meteor_per_image: Mapping[str, float] = field(default_factory=dict)


def score_captions(
    candidates: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    frequencies: DocumentFrequencies | None = None,
    meteor: bool = False,
) -> Scores:
    """Score one caption per image against its references, all as plain text.

    Args:
        candidates: image id -> caption.
        references: image id -> one or more captions by people.
        frequencies: the document frequencies for CIDEr; by default those of `references`, as coco-caption has it. Give
            those of a larger set to score a handful of images.
        meteor: whether to compute METEOR too, for which Java is started.

    Raises:
        ShowtellError: if there are no images, the ids differ, or an image has no reference with a word in it; or
            METEOR is asked for and lacks what it needs.
    """
    if not references:
        raise ShowtellError("no references: there is nothing to score captions against")
    for there, here, missing in (
        (references, candidates, "a caption; caption every image, or leave out its references"),
        (candidates, references, "references; leave out its caption, or add references"),
    ):
        if lacking := [identity for identity in there if identity not in here]:
            raise ShowtellError(f"{len(lacking)} of {len(there)} images, such as {lacking[0]!r}, lack {missing}")
    if texts := [identity for identity, captions in references.items() if isinstance(captions, str)]:
        raise ShowtellError(f"references of {texts[0]!r}: give a list of captions, not one text")

    predicted = [tokenize(caption) for caption in candidates.values()]
    truths = [[tokenize(caption) for caption in references[identity]] for identity in candidates]
    for identity, captions in zip(candidates, truths, strict=True):
        if not any(captions):
            raise ShowtellError(f"references of {identity!r}: none has a word in it; add one or leave the image out")

    counts = _bleu_counts(predicted, truths).sum(axis=0)
    bleus = (100 * _bleu(counts)).tolist()
    metric = CiderD(truths, frequencies)
    ciders = 100 * metric.score(predicted)
    scores = Scores(
        bleu_1=bleus[0],
        bleu_2=bleus[1],
        bleu_3=bleus[2],
        bleu_4=bleus[3],
        rouge_l=float(100 * rouge_l(predicted, truths).mean()),
        cider=float(ciders.mean()),
        distinct=len(set(map(tuple, predicted))) / len(predicted),
        repeated_bigrams=sum(len(set(pairwise(tokens))) < len(tokens) - 1 for tokens in predicted) / len(predicted),
        mean_length=sum(map(len, predicted)) / len(predicted),
        per_image=dict(zip(candidates, ciders.tolist(), strict=True)),
        notes=tuple(_notes(predicted, counts[2:6], bool(ciders.any()), metric.frequencies.images)),
    )
    if not meteor:
        return scores
    whole, per_image = metrics_meteor.meteor(predicted, truths)
    meteors = dict(zip(candidates, (100 * per_image).tolist(), strict=True))
    return replace(scores, meteor=100 * whole, meteor_per_image=meteors)


def _notes(predicted: Sequence[Tokens], matches: np.ndarray, any_cider: bool, documents: int) -> Iterator[str]:
    if empty := sum(not tokens for tokens in predicted):
        yield f"{empty} of {len(predicted)} captions have no word in them"
    if len(predicted) > 1 and len(set(map(tuple, predicted))) == 1:
        same = " ".join(predicted[0])
        yield f"all {len(predicted)} captions are the same ({same!r}): the model seems to ignore the image"
    longest = max(map(len, predicted))
    if not matches[0]:
        yield (
            "all scores are 0 because no caption shares a word with its references:"
            " check that the ids and the language of captions and references are the same"
        )
        return
    for order in ORDERS[1:]:
        if not matches[order - 1]:
            name = "BLEU-4" if order == 4 else f"BLEU-{order} and above"
            why = f"is {order} words long" if longest < order else f"shares {order} words in a row with its references"
            yield f"{name} would be 0 without coco-caption's smoothing: no caption {why}"
            break
    if documents == 1:
        yield (
            "CIDEr can only be 0 with the document frequencies of one image: a word counts the less the more images"
            " have it in their references, and here each is in all of them; give document frequencies of a larger set"
        )
    elif not any_cider:
        yield (
            f"CIDEr is 0 because the words shared with references are in those of all {documents} images"
            " and so tell nothing; score more varied images or give document frequencies of a larger set"
        )


def bleu(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> tuple[np.ndarray, np.ndarray]:
    """Return BLEU-1 to BLEU-4 of the whole, (4,), and of each image, (N, 4), between 0 and 1.

    Papineni et al. 2002, with the length of the closest reference (the shorter of two equally close ones) and the
    smoothing of coco-caption, which leaves a tiny positive number where nothing matches.
    """
    counts = _bleu_counts(candidates, references)
    return _bleu(counts.sum(axis=0)), _bleu(counts)


def _bleu_counts(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """Return (N, 10): length, length of the closest reference, n-grams matched (4), n-grams in the candidate (4)."""
    rows = np.zeros((len(candidates), 2 + 2 * len(ORDERS)), dtype=np.int64)
    for row, candidate, captions in zip(rows, candidates, references, strict=True):
        length = len(candidate)
        row[:2] = length, min((abs(len(caption) - length), len(caption)) for caption in captions)[1]
        for order in ORDERS:
            wanted = reduce(or_, (_ngrams(caption, order) for caption in captions))
            row[1 + order] = (_ngrams(candidate, order) & wanted).total()
            row[5 + order] = max(0, length - order + 1)
    return rows


def _ngrams(tokens: Tokens, order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[skip:] for skip in range(order)), strict=False))


def _bleu(counts: np.ndarray) -> np.ndarray:
    length, closest, matched, total = np.split(counts, (1, 2, 6), axis=-1)
    precision = (matched + 1e-15) / (total + 1e-9)
    ratio = (length + 1e-15) / (closest + 1e-9)
    return np.cumprod(precision, axis=-1) ** (1 / np.array(ORDERS)) * np.exp(np.minimum(0, 1 - 1 / ratio))


def rouge_l(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """Return ROUGE-L of each image, (N,), between 0 and 1; the score of a set is their mean.

    Lin and Och 2004, as coco-caption does it: beta is 1.2, and the best precision and the best recall may come from
    different references.
    """
    squared_beta = 1.2**2
    scores = np.zeros(len(candidates))
    for index, (candidate, captions) in enumerate(zip(candidates, references, strict=True)):
        common = [_longest_common_subsequence(candidate, caption) for caption in captions]
        if any(common):
            precision = max(common) / len(candidate)
            recall = max(length / max(1, len(caption)) for length, caption in zip(common, captions, strict=True))
            scores[index] = (1 + squared_beta) * precision * recall / (recall + squared_beta * precision)
    return scores


def _longest_common_subsequence(first: Tokens, second: Tokens) -> int:
    """Return its length, by the bit-parallel method of Hyyrö (2004): each zero bit stands for one common word."""
    positions: dict[str, int] = {}
    for index, word in enumerate(first):
        positions[word] = positions.get(word, 0) | 1 << index
    everything = (1 << len(first)) - 1
    row = everything
    for word in second:
        matches = row & positions.get(word, 0)
        row = (row + matches) | (row - matches)
    return len(first) - (row & everything).bit_count()
