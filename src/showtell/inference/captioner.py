"""The captioner: from images to captions."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from PIL import Image

from showtell.errors import BundleError, ConfigurationError, ImageError, MismatchError
from showtell.images import ImageSource, Preprocess, read_source
from showtell.inference.bundle import Bundle
from showtell.inference.caption import Caption, CaptionResult
from showtell.inference.confidence import Calibration, mean_log_prob
from showtell.inference.decoder_step import DecoderStep
from showtell.inference.ensemble import Ensemble
from showtell.inference.onnx_models import OnnxDecoderStep, OnnxEncoder, open_bundle_model
from showtell.inference.run_limits import limit_runs
from showtell.inference.search import Hypothesis, search
from showtell.inference.search_options import SearchOptions
from showtell.utils.iterables import batched
from showtell.utils.threads import parallel_map
from showtell.vocabulary import Vocabulary

# Images per batch and thread. Larger batches are hardly faster, and delay the first caption.
BATCH_SIZE = 16
# The encoder is fastest on batches whose activations fit into the processor's cache.
ENCODER_BATCH_SIZE = 4
# Partial captions that are decoded at the same time, so that wide beams of many images need not much memory.
MAX_ROWS = 256


class Captioner:
    """Captions images with one bundle, or with several as an ensemble.

    Args:
        bundles: bundles with the same vocabulary.

    Raises:
        ConfigurationError: if there are no bundles.
        MismatchError: if their vocabularies differ.

    Examples:
        >>> from showtell import Captioner
        >>> captioner = Captioner.load()
        >>> captioner("examples/000000129648.jpg").text
        'a skateboarder is doing a trick on a ramp'
    """

    def __init__(self, bundles: Sequence[Bundle]):
        if not bundles:
            raise ConfigurationError("a captioner needs at least one bundle")
        self.bundles = tuple(bundles)
        first = self.bundles[0].vocabulary
        for other in (bundle.vocabulary for bundle in self.bundles[1:]):
            if other.fingerprint != first.fingerprint:
                raise MismatchError(
                    f"an ensemble needs one vocabulary, but these bundles have {first.fingerprint} ({len(first)} "
                    f"tokens) and {other.fingerprint} ({len(other)} tokens); train the models on the same captions.h5"
                )
        self.vocabulary: Vocabulary = first

    @classmethod
    def load(cls, *paths: str | os.PathLike[str]) -> "Captioner":
        """Load bundles from disk.

        Args:
            paths: bundle folders or .zip files; "default", or no path at all, is the bundle that ships with showtell.

        Raises:
            BundleError: if a bundle is missing or damaged.
            MismatchError: if their vocabularies differ.
        """
        return cls([Bundle.load(path) for path in paths or ("default",)])

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the bundles only; the models are loaded again on first use."""
        return Captioner, (self.bundles,)

    def __call__(self, source: ImageSource, options: SearchOptions | None = None, **search_options: Any) -> Caption:
        """Caption one image.

        Args:
            source: a path, bytes, a binary file object, a PIL image or an array (H, W, 3) uint8.
            options: decoding options; by default those of the (first) bundle.
            search_options: fields of `SearchOptions` to change, such as `beam_size=5, n_best=3`.

        Returns:
            The best caption; the others are its `alternatives`.

        Raises:
            ImageError: if the image cannot be read.
            ConfigurationError: if an option is unknown or out of range.
        """
        (result,) = self.caption([source], options, **search_options)
        if result.error is not None:
            raise result.error
        best, *others = result.captions
        return replace(best, alternatives=tuple(others))

    def caption(
        self,
        sources: Iterable[ImageSource],
        options: SearchOptions | None = None,
        batch_size: int = BATCH_SIZE,
        **search_options: Any,
    ) -> Iterator[CaptionResult]:
        """Caption a stream of images in order. The result of an unreadable image has an error; the stream continues.

        Args:
            sources: images of any type that `__call__` accepts. The iterable is consumed lazily.
            options: decoding options; by default those of the (first) bundle.
            batch_size: images per batch and thread.
            search_options: fields of `SearchOptions` to change.

        Raises:
            ConfigurationError: if an option is unknown or out of range.
            TypeError: if `sources` is a single image.
        """
        # An open file is iterable, but its lines are not images.
        if isinstance(sources, str | os.PathLike | bytes | Image.Image | np.ndarray) or hasattr(sources, "read"):
            raise TypeError("caption() expects several images: pass a list, or call the captioner with a single image")
        if batch_size < 1:
            raise ConfigurationError(f"batch_size must be 1 or more, not {batch_size}")
        options = (options or self.search_options).override(**search_options)
        self.open_models()  # once, before several threads use them
        return self._caption_stream(sources, options, batch_size)

    def open_models(self) -> None:
        """Load the models now instead of with the first image. Raises BundleError if a model cannot be loaded."""
        with ThreadPoolExecutor(1) as pool:  # load encoder and decoder at the same time
            encoders = pool.submit(lambda: self._encoders)
            _ = self.step, self.calibration
            encoders.result()

    def caption_batch(self, sources: Sequence[ImageSource], options: SearchOptions) -> list[CaptionResult]:
        """Caption a small batch of images in the calling thread; `caption` does so in several threads."""
        contents = [read_source(source) for source in sources]
        results = self.caption_decoded(contents, [self._load_image(content) for content in contents], options)
        return [replace(result, source=source) for source, result in zip(sources, results, strict=True)]

    def caption_decoded(
        self, sources: Sequence[ImageSource], decoded: Sequence[list[np.ndarray] | ImageError], options: SearchOptions
    ) -> list[CaptionResult]:
        """Caption a small batch of decoded images in the calling thread.

        Args:
            sources: the images, to be stored in the results.
            decoded: for each image, its pixels (size, size, 3) uint8 for each of `preprocesses`, or its error.
            options: decoding options.
        """
        readable = [pixels for pixels in decoded if not isinstance(pixels, ImageError)]
        images = [np.stack(pixels) for pixels in zip(*readable, strict=True)]
        hypotheses = iter(self._decode(images, options) if images else [])
        return [
            CaptionResult(source, error=pixels)
            if isinstance(pixels, ImageError)
            else CaptionResult(source, tuple(self._caption(source, *pair) for pair in next(hypotheses)))
            for source, pixels in zip(sources, decoded, strict=True)
        ]

    def search(self, images: Sequence[np.ndarray], options: SearchOptions) -> list[list[Hypothesis]]:
        """Decode captions for preprocessed images, one array (N, H, W, 3) uint8 for each of `preprocesses`."""
        with self._limit_runs(images, options):
            return self._search(self.encode(images), options)

    def encode(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return features (N, G, D) from the encoder of each bundle. `images` is the same as for `search`."""
        pixels = dict(zip(self.preprocesses, images, strict=True))
        return [_encode(encoder, pixels[encoder.info.preprocess]) for encoder in self._encoders]

    @cached_property
    def calibration(self) -> Calibration | None:
        """The calibration of the confidence; None if the bundle has none, and for ensembles."""
        return self.bundles[0].calibration if len(self.bundles) == 1 else None

    @property
    def preprocesses(self) -> list[Preprocess]:
        """The distinct preprocessing settings of the encoders; one for a single bundle."""
        return list(dict.fromkeys(bundle.encoder.preprocess for bundle in self.bundles))

    @property
    def search_options(self) -> SearchOptions:
        """The default decoding options, those of the first bundle."""
        return self.bundles[0].search_options

    @property
    def has_attention(self) -> bool:
        """Whether captions come with attention weights."""
        return len({bundle.encoder.cells for bundle in self.bundles if bundle.has_attention}) == 1

    @cached_property
    def step(self) -> DecoderStep:
        """The decoder, or the ensemble of decoders."""
        steps = [_open_decoder(bundle, len(self.vocabulary)) for bundle in self.bundles]
        return Ensemble(steps) if len(steps) > 1 else steps[0]

    @cached_property
    def _encoders(self) -> list[OnnxEncoder]:
        return [
            OnnxEncoder(open_bundle_model(bundle.files["encoder.onnx"], "encoder.onnx"), bundle.encoder)
            for bundle in self.bundles
        ]

    def _caption_stream(
        self, sources: Iterable[ImageSource], options: SearchOptions, batch_size: int
    ) -> Iterator[CaptionResult]:
        work = partial(self.caption_batch, options=options)
        for batch in parallel_map(work, batched(sources, batch_size), ahead=1):
            yield from batch

    def _search(self, features: Sequence[np.ndarray], options: SearchOptions) -> list[list[Hypothesis]]:
        images = max(1, MAX_ROWS // options.rows)
        found: list[list[Hypothesis]] = []
        for start in range(0, len(features[0]), images):
            parts = [array[start : start + images] for array in features]
            # Otherwise, all parts would draw the same random numbers.
            part_options = options if options.seed is None else replace(options, seed=options.seed + start)
            found += search(self.step, parts if len(parts) > 1 else parts[0], part_options)
        return found

    def _limit_runs(self, images: Sequence[np.ndarray], options: SearchOptions) -> AbstractContextManager[None]:
        names = ("encoder.onnx", "decoder_start.onnx", "decoder_step.onnx")
        model_bytes = sum(len(bundle.files[name]) for bundle in self.bundles for name in names)
        return limit_runs(len(images[0]), options.rows * options.max_length, model_bytes)

    def _load_image(self, source: ImageSource) -> list[np.ndarray] | ImageError:
        """Decode an image once for each of `preprocesses`."""
        try:
            return [preprocess.load(source) for preprocess in self.preprocesses]
        except ImageError as error:
            return error

    def _decode(
        self, images: Sequence[np.ndarray], options: SearchOptions
    ) -> Iterator[list[tuple[Hypothesis, np.ndarray | None]]]:
        """Yield the hypotheses of each image, each with the image's distances from the training data."""
        with self._limit_runs(images, options):
            features = self.encode(images)
            results = self._search(features, options)
        distances: Sequence[np.ndarray | None] = [None] * len(results)
        if self.calibration is not None:
            distances = list(self.calibration.feature_clusters.distances(features[0]))
        for hypotheses, distance in zip(results, distances, strict=True):
            yield [(hypothesis, distance) for hypothesis in hypotheses]

    def _caption(self, source: ImageSource, hypothesis: Hypothesis, distances: np.ndarray | None) -> Caption:
        confidence = None
        if self.calibration is not None and distances is not None:
            mean = mean_log_prob(hypothesis.log_prob, len(hypothesis.tokens))
            confidence = float(self.calibration.confidence(mean, distances))
        strings = self.vocabulary.token_strings(hypothesis.tokens)
        visible = [position for position, token in enumerate(strings) if token]
        return Caption(
            text=self.vocabulary.decode(hypothesis.tokens),
            log_prob=hypothesis.log_prob,
            score=hypothesis.score,
            tokens=tuple(strings[position] for position in visible),
            attention=None if hypothesis.attention is None else hypothesis.attention[visible],
            confidence=confidence,
            source=source,
        )


def _open_decoder(bundle: Bundle, vocabulary_size: int) -> OnnxDecoderStep:
    names = ("decoder_start.onnx", "decoder_step.onnx")
    start, step = (open_bundle_model(bundle.files[name], name) for name in names)
    decoder = OnnxDecoderStep(start, step, bundle.encoder.cells)
    if decoder.vocabulary_size != vocabulary_size:
        raise BundleError(
            f"the decoder has {decoder.vocabulary_size} tokens, but its vocabulary has {vocabulary_size}; export the "
            "bundle again"
        )
    if decoder.has_attention != bundle.has_attention:
        raise BundleError("has_attention of the bundle does not match its decoder; export the bundle again")
    return decoder


def _encode(encoder: OnnxEncoder, images: np.ndarray) -> np.ndarray:
    starts = range(0, len(images), ENCODER_BATCH_SIZE)
    return np.concatenate([encoder.encode(images[start : start + ENCODER_BATCH_SIZE]) for start in starts])
