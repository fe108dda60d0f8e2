"""All scores of a set of captions: BLEU, ROUGE-L, CIDEr and, on request, METEOR."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from showtell.errors import ShowtellError
from showtell.metrics.bleu import bleu_counts, bleu_from_counts
from showtell.metrics.cider import CiderD, DocumentFrequencies
from showtell.metrics.ngrams import ORDERS, Tokens
from showtell.metrics.rouge import rouge_l
from showtell.metrics.tokenizer import tokenize


@dataclass(frozen=True)
class Scores:
    """Scores of a set of captions. BLEU, ROUGE-L, CIDEr and METEOR are multiplied by 100, as in papers.

    Attributes:
        bleu_1: corpus BLEU of single words.
        bleu_2: corpus BLEU of n-grams of up to 2 words.
        bleu_3: corpus BLEU of n-grams of up to 3 words.
        bleu_4: corpus BLEU of n-grams of up to 4 words.
        rouge_l: mean over images.
        cider: CIDEr-D, the score that coco-caption and most papers call CIDEr; mean over images.
        distinct: share of distinct captions, from 1/N (all identical) to 1.
        repeated_bigrams: share of captions that contain the same bigram twice.
        mean_length: mean number of tokens per caption.
        per_image: CIDEr of each image.
        notes: explanations of zero scores and suspicious captions, one sentence each.
        meteor: corpus METEOR; None if not requested.
        meteor_per_image: METEOR of each image; empty if not requested.
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
    """Score one caption per image against reference captions, all as plain text.

    Args:
        candidates: image id -> caption.
        references: image id -> one or more reference captions.
        frequencies: document frequencies for CIDEr; by default those of `references`, as in coco-caption. Pass those
            of a larger set to score only a few images.
        meteor: also compute METEOR, which starts Java.

    Raises:
        ShowtellError: if there are no images, the ids differ, or an image has no reference with a word in it.
        MissingExtra: if METEOR is requested and pycocoevalcap is not installed.
        ConfigurationError: if METEOR is requested and Java is not installed.

    Examples:
        >>> references = {"1.jpg": ["A dog runs.", "The dog runs!"], "2.jpg": ["Two cats sleep."]}
        >>> scores = score_captions({"1.jpg": "a dog runs", "2.jpg": "two cats run"}, references)
        >>> round(scores.bleu_1, 1), round(scores.rouge_l, 1), round(scores.cider, 1)
        (83.3, 83.3, 406.2)
    """
    _check_ids(candidates, references)
    predicted = [tokenize(caption) for caption in candidates.values()]
    truths = [[tokenize(caption) for caption in references[image]] for image in candidates]
    for image, captions in zip(candidates, truths, strict=True):
        if not any(captions):
            raise ShowtellError(f"references of {image!r}: no reference contains a word; add one or remove the image")

    counts = bleu_counts(predicted, truths).sum(axis=0)
    bleus = (100 * bleu_from_counts(counts)).tolist()
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
        notes=tuple(_explain(predicted, counts[2:6], bool(ciders.any()), metric.frequencies.images)),
    )
    if not meteor:
        return scores
    from showtell.metrics.meteor import meteor as compute_meteor  # most users of this module do not need subprocesses

    corpus, per_image = compute_meteor(predicted, truths)
    meteors = dict(zip(candidates, (100 * per_image).tolist(), strict=True))
    return replace(scores, meteor=100 * corpus, meteor_per_image=meteors)


def _check_ids(candidates: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> None:
    if not references:
        raise ShowtellError("no references: pass at least one image with reference captions")
    for expected, actual, missing in (
        (references, candidates, "a caption; caption every image, or remove its references"),
        (candidates, references, "references; remove their captions, or add references"),
    ):
        if lacking := [image for image in expected if image not in actual]:
            raise ShowtellError(f"{len(lacking)} of {len(expected)} images, such as {lacking[0]!r}, lack {missing}")
    if texts := [image for image, captions in references.items() if isinstance(captions, str)]:
        raise ShowtellError(f"references of {texts[0]!r}: pass a list of captions instead of a single text")


def _explain(predicted: Sequence[Tokens], matches: np.ndarray, any_cider: bool, images: int) -> Iterator[str]:
    """Yield explanations of zero scores and suspicious captions.

    Args:
        predicted: the tokenised captions.
        matches: (4,) number of n-grams of each order that match references.
        any_cider: whether the CIDEr of any image is above 0.
        images: number of images in the document frequencies.
    """
    if empty := sum(not tokens for tokens in predicted):
        yield f"{empty} of {len(predicted)} captions contain no words"
    if len(predicted) > 1 and len(set(map(tuple, predicted))) == 1:
        caption = " ".join(predicted[0])
        yield f"all {len(predicted)} captions are identical ({caption!r}): the model may be ignoring the image"
    if not matches[0]:
        yield (
            "all scores are 0 because no caption shares a word with its references:"
            " check that captions and references have the same image ids and the same language"
        )
        return
    longest = max(map(len, predicted))
    for order in ORDERS[1:]:
        if not matches[order - 1]:
            name = "BLEU-4" if order == 4 else f"BLEU-{order} and above"
            has_none = f"has {order} words" if longest < order else f"shares {order} words in a row with its references"
            yield f"{name} would be 0 without the smoothing of coco-caption: no caption {has_none}"
            break
    if images == 1:
        yield (
            "CIDEr is always 0 with the document frequencies of a single image, because words in the references of"
            " all images have no weight; pass document frequencies of a larger set"
        )
    elif not any_cider:
        yield (
            f"CIDEr is 0 because the words shared with references occur in the references of all {images} images"
            " and have no weight; score more varied images, or pass document frequencies of a larger set"
        )
