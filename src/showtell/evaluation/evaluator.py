"""Evaluate a captioner on images with reference captions."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from showtell.data import Example
from showtell.errors import ImageError
from showtell.inference.caption import Caption
from showtell.inference.captioner import Captioner
from showtell.inference.search_options import SearchOptions
from showtell.metrics import DocumentFrequencies, Scores, score_captions

logger = logging.getLogger(__name__)

# Document frequencies of fewer images are unreliable. On Flickr8k, CIDEr of 5, 100 and 200 random images with their own
# document frequencies deviates by 18, 6 and 4 from CIDEr of the same captions among 1,000 images. With the document
# frequencies of 1,000 other images, it deviates by 2.1, 0.6 and 0.4 (benchmarks/few_images.py).
MIN_RELIABLE_IMAGES = 200


@dataclass(frozen=True)
class Evaluation:
    """The captions of a captioner and their scores.

    Attributes:
        scores: scores of the captions.
        captions: image -> caption by the captioner.
        references: image -> reference captions.
        unreadable: image -> why it could not be read; these images are not scored.
        options: the search options.
        frequencies: the bundle's document frequencies, if CIDEr was computed with them; otherwise None.
    """

    scores: Scores
    captions: Mapping[str, Caption]
    references: Mapping[str, Sequence[str]]
    unreadable: Mapping[str, str]
    options: SearchOptions
    frequencies: DocumentFrequencies | None

    @property
    def metrics(self) -> dict[str, float | int]:
        """Metric -> value, in the order of reports. Scores are multiplied by 100, shares are percentages."""
        scores = self.scores
        return {
            **{f"BLEU-{order}": getattr(scores, f"bleu_{order}") for order in range(1, 5)},
            **({} if scores.meteor is None else {"METEOR": scores.meteor}),
            "ROUGE-L": scores.rouge_l,
            "CIDEr": scores.cider,
            "distinct captions": 100 * scores.distinct,
            "with a repeated bigram": 100 * scores.repeated_bigrams,
            "words per caption": scores.mean_length,
            "images": len(self.captions),
        }

    @property
    def notes(self) -> list[str]:
        """Caveats about the scores, one sentence each."""
        notes, images = list(self.scores.notes), len(self.captions)
        if self.frequencies is not None:
            notes.append(
                f"CIDEr uses the document frequencies of the bundle ({self.frequencies.images} images), because "
                f"{images} images are too few to count their own; compare it only with scores that use the same "
                "frequencies"
            )
        elif 1 < images < MIN_RELIABLE_IMAGES:
            notes.append(
                f"CIDEr of only {images} images is higher than CIDEr of the same captions in a larger set; compare it "
                "only with scores of equally many images"
            )
        return notes

    def ranked(self) -> list[str]:
        """Return the images by CIDEr, highest first."""
        return sorted(self.captions, key=lambda image: -self.scores.per_image[image])


def evaluate_captioner(
    captioner: Captioner,
    examples: Sequence[Example],
    folder: Path,
    options: SearchOptions | None = None,
    meteor: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Caption the images of the examples and score the captions.

    CIDEr uses the document frequencies of these images, as published scores do. If there are fewer than
    MIN_RELIABLE_IMAGES, it uses those of the captioner's bundles, if they were counted on more images.

    Args:
        captioner: the captioner, of one bundle or an ensemble.
        examples: images with their reference captions.
        folder: folder of the images.
        options: search options; by default those of the (first) bundle.
        meteor: also compute METEOR, which needs Java.
        progress: called with the number of processed images and the total.

    Raises:
        ImageError: if no image can be read.
        ShowtellError: if METEOR cannot run.
    """
    options = options or captioner.search_options
    captions: dict[str, Caption] = {}
    unreadable: dict[str, str] = {}
    results = captioner.caption((folder / example.image for example in examples), options)
    for done, (example, result) in enumerate(zip(examples, results, strict=True), start=1):
        if result.error is None:
            captions[example.image] = result.captions[0]
        else:
            unreadable[example.image] = str(result.error)
            logger.warning("skipped: %s", result.error)
        progress(done, len(examples))
    if not captions:
        raise ImageError(f"none of the {len(examples)} images can be read; check the image folder {str(folder)!r}")
    references = {example.image: example.captions for example in examples if example.image in captions}
    frequencies = _bundle_frequencies(captioner, len(captions))
    texts = {image: caption.text for image, caption in captions.items()}
    scores = score_captions(texts, references, frequencies, meteor)
    return Evaluation(scores, captions, references, unreadable, options, frequencies)


def _bundle_frequencies(captioner: Captioner, images: int) -> DocumentFrequencies | None:
    """Return the document frequencies of the captioner's bundles if they are more reliable than those of the images."""
    if images >= MIN_RELIABLE_IMAGES:
        return None
    available = [bundle.document_frequencies for bundle in captioner.bundles]
    larger = [frequencies for frequencies in available if frequencies is not None and frequencies.images > images]
    return max(larger, key=lambda frequencies: frequencies.images, default=None)
