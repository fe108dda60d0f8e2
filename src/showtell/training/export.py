"""Exporting a training run as a bundle."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from showtell.data import Example
from showtell.encoder import Encoder
from showtell.errors import ConfigurationError, ShowtellError
from showtell.evaluation.evaluator import MIN_RELIABLE_IMAGES, evaluate_captioner
from showtell.inference.bundle import Bundle
from showtell.inference.captioner import Captioner
from showtell.inference.search import search
from showtell.metrics import DocumentFrequencies, Scores, tokenize
from showtell.training.batches import TrainingSplit
from showtell.training.decoders import Decoder, KerasDecoderStep
from showtell.training.model_card import select_metrics, write_model_card
from showtell.training.onnx_graphs import export_decoder, export_encoder
from showtell.training.phases import load_best_decoder
from showtell.training.quantize import is_quantized, load_calibration_images, quantize_decoder, quantize_encoder
from showtell.training.run import Run
from showtell.training.tuned_encoder import (
    fine_tuned_encoder_path,
    fine_tuned_int8_encoder_path,
    load_fine_tuned_encoder,
)

PARITY_IMAGES = 100
PARITY_BATCH_SIZE = 8
MAX_NGRAMS = 40_000  # document frequencies in a bundle, about 0.7 MB for English

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedRun:
    """A run and the objects that its export needs.

    Attributes:
        run: the run, with its image folders.
        encoder: the encoder of the run's features.
        training: the training data.
        validation: the validation data, if any.
    """

    run: Run
    encoder: Encoder
    training: TrainingSplit
    validation: TrainingSplit | None


def export_bundle(
    trained: TrainedRun, int8: bool = False, introduction: str | None = None, data_license: str = ""
) -> Bundle:
    """Make a bundle of the best checkpoint, and compare its captions with those of Keras.

    The float bundle must caption the first PARITY_IMAGES validation images like Keras. With `int8`, the bundle is then
    quantised. The scores of both versions on the validation images are logged.

    Args:
        trained: the run with encoder and data.
        int8: quantise encoder and decoder to 8 bits.
        introduction: the start of the model card; None for a general one.
        data_license: terms of the training data in one line.

    Raises:
        ConfigurationError: if the image folder of the run is unknown.
        ShowtellError: if the captions differ from those of Keras.
    """
    run, encoder = trained.run, trained.encoder
    if not run.data_paths.images:
        raise ConfigurationError(
            f"{run.folder}: the export needs images to check the bundle, but their folder is unknown; pass --images"
        )
    decoder = load_best_decoder(run.last_phase)
    float_encoder, int8_encoder = _export_encoders(trained, int8)
    start, step = export_decoder(decoder)
    files = {
        "vocabulary.json": run.vocabulary.to_json().encode(),
        "encoder.onnx": float_encoder,
        "decoder_start.onnx": start.SerializeToString(),
        "decoder_step.onnx": step.SerializeToString(),
        "MODEL_CARD.md": b"",
        "document_frequencies.json": _count_document_frequencies(trained).to_json().encode(),
    }
    bundle = Bundle(
        encoder.info,
        {"kind": decoder.kind, **decoder.config},
        "float32",
        run.search_options,
        files,
        has_attention="attention" in decoder.recurrent_state_names(),
        data_license=data_license,
    )
    _check_parity(bundle, trained, decoder)
    scores = _score(bundle, trained, "float")
    if int8_encoder is not None:
        bundle = _quantize(bundle, trained, int8_encoder)
        scores = _score(bundle, trained, "int8")
    card = write_model_card(run, bundle, scores, introduction)
    recorded = {"validation": select_metrics(scores)} if scores else {}
    return replace(bundle, files={**bundle.files, "MODEL_CARD.md": card.encode()}, scores=recorded)


def _count_document_frequencies(trained: TrainedRun) -> DocumentFrequencies:
    """Return the document frequencies that make CIDEr of a few images comparable with the scores of the bundle.

    The scores use those of the validation images. If these are too few to be reliable, the training images are better,
    although their larger number leads to lower scores.
    """
    validation = trained.validation
    is_reliable = validation is not None and len(validation.images) >= MIN_RELIABLE_IMAGES
    split = validation if validation is not None and is_reliable else trained.training
    references = [[*map(tokenize, texts)] for texts in split.references]
    return DocumentFrequencies.from_references(references).most_common(MAX_NGRAMS)


def _export_encoders(trained: TrainedRun, int8: bool) -> tuple[bytes, bytes | None]:
    """Return the encoder as an ONNX model in float and, if requested, in 8 bits."""
    run = trained.run
    if run.fine_tuning:
        load_fine_tuned_encoder(run.fine_tuning, trained.training, int8)
        path = fine_tuned_int8_encoder_path(run.fine_tuning)
        return fine_tuned_encoder_path(run.fine_tuning).read_bytes(), path.read_bytes() if int8 else None
    start_encoder = run.start_encoder
    model = start_encoder.read_bytes() if start_encoder else export_encoder(trained.encoder).SerializeToString()
    if not int8:
        return model, None
    return model, model if is_quantized(model) else quantize_encoder(model, _load_calibration_images(trained))


def _quantize(bundle: Bundle, trained: TrainedRun, encoder: bytes) -> Bundle:
    """Return the bundle with an encoder in 8 bits and its decoder quantised to 8 bits."""
    files = {**bundle.files, "encoder.onnx": encoder}
    (features,) = Captioner([replace(bundle, files=files)]).encode([_load_calibration_images(trained)])
    start, step = quantize_decoder(
        files["decoder_start.onnx"], files["decoder_step.onnx"], features, bundle.search_options
    )
    return replace(bundle, precision="int8", files={**files, "decoder_start.onnx": start, "decoder_step.onnx": step})


def _load_calibration_images(trained: TrainedRun) -> np.ndarray:
    folder = Path(trained.run.data_paths.images[0])
    return load_calibration_images(trained.encoder.info.preprocess, folder, trained.training.images)


def _check_parity(bundle: Bundle, trained: TrainedRun, decoder: Decoder) -> None:
    """Compare captions of the bundle with those of Keras. Raises ShowtellError if they differ."""
    names = (trained.validation or trained.training).images[:PARITY_IMAGES]
    folder = Path(trained.run.data_paths.images[-1])
    preprocess = trained.encoder.info.preprocess
    batches = [*_split_batches(np.stack([preprocess.load(folder / name) for name in names]))]
    features = np.concatenate([trained.encoder.encode(batch) for batch in batches])
    expected = search(KerasDecoderStep(decoder), features, bundle.search_options)
    captioner = Captioner([bundle])
    actual = [captions for batch in batches for captions in captioner.search([batch], bundle.search_options)]
    differing = sum(ours[0].tokens != theirs[0].tokens for ours, theirs in zip(actual, expected, strict=True))
    if differing:
        raise ShowtellError(f"the ONNX export differs from Keras on {differing} of {len(names)} images")
    logger.info("parity: the same captions as Keras on %d images", len(names))


def _split_batches(pixels: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(pixels), PARITY_BATCH_SIZE):
        yield pixels[start : start + PARITY_BATCH_SIZE]


def _score(bundle: Bundle, trained: TrainedRun, name: str) -> Scores | None:
    """Score a bundle on the validation images, as `showtell evaluate` does, and log size and scores."""
    size = sum(map(len, bundle.files.values())) / 1e6
    split = trained.validation
    if split is None:
        logger.info("%s: %.1f MB, not scored: the run has no validation captions", name, size)
        return None
    examples = [Example(image, tuple(texts)) for image, texts in zip(split.images, split.references, strict=True)]
    folder = Path(trained.run.data_paths.images[-1])
    scores = evaluate_captioner(Captioner([bundle]), examples, folder).scores
    bleus = " ".join(f"{value:.1f}" for value in (scores.bleu_1, scores.bleu_2, scores.bleu_3, scores.bleu_4))
    logger.info("%s: %.1f MB, BLEU-1..4 %s, ROUGE-L %.1f, CIDEr %.1f", name, size, bleus, scores.rouge_l, scores.cider)
    return scores
