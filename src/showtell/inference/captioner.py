"""The captioner: from image files to captions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from showtell.errors import BundleError, ImageError, MismatchError
from showtell.images import Preprocess, batched
from showtell.inference.bundle import Bundle
from showtell.inference.confidence import Calibration, mean_log_prob
from showtell.inference.ensemble import Ensemble
from showtell.inference.onnx_models import OnnxDecoderStep, OnnxEncoder, open_session
from showtell.inference.search import DecoderStep, Hypothesis, SearchOptions, search
from showtell.utils.threads import parallel_map
from showtell.vocabulary import Vocabulary

DEFAULT_BUNDLE = Path(__file__).parent.parent / "pretrained" / "default"
# Images that a thread captions at a time. More gain little, and the first caption comes later.
BATCH_SIZE = 16
# The encoder is fastest on so few that what it computes stays in the processor's cache.
ENCODED_AT_A_TIME = 4

Source = str | Path | bytes


@dataclass(frozen=True)
class Caption:
    """A caption of an image.

    Attributes:
        text: the caption.
        log_prob: its natural log-probability under the model, a sum over its words and its end.
        score: the same under the length penalty; captions of an image are ranked by it.
        tokens: its words; or the pieces or characters of which the model makes it, blanks left out.
        attention: (words, G) float32, the weights with which the G cells of the image were looked at for each of
            `tokens`, rows of a square grid from the top; None if the model has no attention. No part of equality.
        confidence: the probability, 0 to 1, that a person would accept it (see confidence.py); None if the bundle was
            not calibrated, and of ensembles. It is meant for the bundle's own way of searching.
    """

    text: str
    log_prob: float
    score: float
    tokens: tuple[str, ...]
    attention: np.ndarray | None = field(default=None, compare=False, repr=False)
    confidence: float | None = None


@dataclass(frozen=True)
class CaptionResult:
    """What came of one image: its captions, the best first, or the error if it could not be read."""

    source: Source
    captions: tuple[Caption, ...] = ()
    error: ImageError | None = None


class Captioner:
    """Captions images with one bundle, or with several as an ensemble.

    Example:
        >>> from showtell import Captioner
        >>> Captioner.load()("photo.jpg").text  # doctest: +SKIP
        'a brown dog is running through the grass'
    """

    def __init__(self, bundles: Sequence[Bundle]):
        self.bundles = tuple(bundles)
        first = self.bundles[0].vocabulary
        for other in (bundle.vocabulary for bundle in self.bundles[1:]):
            if other.fingerprint != first.fingerprint:
                raise MismatchError(
                    f"an ensemble needs one vocabulary, but these have {first.fingerprint} ({len(first)} words) and "
                    f"{other.fingerprint} ({len(other)} words); train the models on the same captions.h5"
                )
        self.vocabulary: Vocabulary = first

    @classmethod
    def load(cls, *paths: str | Path) -> "Captioner":
        """Load bundles from disk; without a path, the one that ships with showtell.

        Raises:
            BundleError: if one is missing or damaged.
            MismatchError: if their vocabularies differ.
        """
        return cls([Bundle.load(path) for path in paths or (DEFAULT_BUNDLE,)])

    def __call__(self, source: Source, options: SearchOptions | None = None) -> Caption:
        """Caption one image, a path or the bytes of a file. Raises ImageError if it cannot be read."""
        (result,) = self.caption([source], options)
        if result.error is not None:
            raise result.error
        return result.captions[0]

    def open_models(self) -> None:
        """Load the networks now, not with the first image. Raises BundleError if one cannot be used."""
        _ = self._encoders, self.step, self.calibration

    def caption(
        self, sources: Iterable[Source], options: SearchOptions | None = None, batch_size: int = BATCH_SIZE
    ) -> Iterator[CaptionResult]:
        """Caption images as they come, in order; an unreadable one gives its error and stops nothing.

        Args:
            sources: paths, or the bytes of image files.
            options: how to search; by default as the (first) bundle says.
            batch_size: images that a thread captions at a time.
        """
        options = options or self.search_options
        self.open_models()  # before threads would do it at the same time
        for batch in parallel_map(partial(self.caption_batch, options=options), batched(sources, batch_size), ahead=1):
            yield from batch

    def caption_batch(self, sources: Sequence[Source], options: SearchOptions) -> list[CaptionResult]:
        """Caption a few images together, in the thread that calls; `caption` does so in several threads."""
        loaded = [self._load_image(source) for source in sources]
        readable = [pixels for pixels in loaded if not isinstance(pixels, ImageError)]
        images = [np.stack(pixels) for pixels in zip(*readable, strict=True)]
        found = iter(self._captions(images, options) if images else [])
        return [
            CaptionResult(source, error=pixels)
            if isinstance(pixels, ImageError)
            else CaptionResult(source, next(found))
            for source, pixels in zip(sources, loaded, strict=True)
        ]

    def search(self, images: Sequence[np.ndarray], options: SearchOptions) -> list[list[Hypothesis]]:
        """Search captions for images, given as pixels (N, H, W, 3) uint8 for each of `preprocesses`."""
        return self._search(self.encode(images), options)

    def encode(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return features (N, G, D) of each bundle's encoder for images as `search` takes them."""
        pixels = dict(zip(self.preprocesses, images, strict=True))
        return [_encode(encoder, pixels[encoder.info.preprocess]) for encoder in self._encoders]

    @cached_property
    def calibration(self) -> Calibration | None:
        """What makes a confidence of a caption; None if the bundle has none, and of ensembles, which were not tried."""
        return self.bundles[0].calibration if len(self.bundles) == 1 else None

    @property
    def preprocesses(self) -> list[Preprocess]:
        """The different ways in which the encoders want images; of one bundle, one."""
        return list(dict.fromkeys(bundle.encoder.preprocess for bundle in self.bundles))

    @property
    def search_options(self) -> SearchOptions:
        """How captions are sought unless one asks otherwise."""
        return self.bundles[0].search_options

    @property
    def has_attention(self) -> bool:
        """Whether captions come with attention weights."""
        return len({bundle.encoder.cells for bundle in self.bundles if bundle.has_attention}) == 1

    @cached_property
    def step(self) -> DecoderStep:
        """The decoder, or the ensemble of decoders."""
        steps = [_decoder(bundle) for bundle in self.bundles]
        return Ensemble(steps) if len(steps) > 1 else steps[0]

    @cached_property
    def _encoders(self) -> list[OnnxEncoder]:
        return [
            OnnxEncoder(open_session(bundle.files["encoder.onnx"], threads=1), bundle.encoder)
            for bundle in self.bundles
        ]

    def _search(self, features: Sequence[np.ndarray], options: SearchOptions) -> list[list[Hypothesis]]:
        return search(self.step, features if len(features) > 1 else features[0], options)

    def _load_image(self, source: Source) -> list[np.ndarray] | ImageError:
        """Decode an image once for every size that an encoder of the ensemble wants; mostly that is one."""
        try:
            return [preprocess.load(source) for preprocess in self.preprocesses]
        except ImageError as error:
            return error

    def _captions(self, images: Sequence[np.ndarray], options: SearchOptions) -> list[tuple[Caption, ...]]:
        features = self.encode(images)
        found = self._search(features, options)
        distances: Sequence[np.ndarray | None] = [None] * len(found)
        if self.calibration is not None:
            distances = list(self.calibration.feature_clusters.distances(features[0]))
        return [
            tuple(self._caption(caption, distance) for caption in captions)
            for captions, distance in zip(found, distances, strict=True)
        ]

    def _caption(self, found: Hypothesis, distances: np.ndarray | None) -> Caption:
        confidence = None
        if self.calibration is not None and distances is not None:
            confidence = float(self.calibration.confidence(mean_log_prob(found.log_prob, len(found.tokens)), distances))
        strings = self.vocabulary.token_strings(found.tokens)
        seen = [place for place, token in enumerate(strings) if token]
        attention = None if found.attention is None else found.attention[seen]
        tokens = tuple(strings[place] for place in seen)
        return Caption(self.vocabulary.decode(found.tokens), found.log_prob, found.score, tokens, attention, confidence)


def _decoder(bundle: Bundle) -> OnnxDecoderStep:
    step = OnnxDecoderStep(
        *(open_session(bundle.files[f"decoder_{part}.onnx"], threads=1) for part in ("start", "step"))
    )
    if step.vocabulary_size != (words := len(bundle.vocabulary)):
        raise BundleError(
            f"the model chooses among {step.vocabulary_size} words, its vocabulary has {words}; export the bundle anew"
        )
    return step


def _encode(encoder: OnnxEncoder, images: np.ndarray) -> np.ndarray:
    starts = range(0, len(images), ENCODED_AT_A_TIME)
    return np.concatenate([encoder.encode(images[start : start + ENCODED_AT_A_TIME]) for start in starts])
