"""From a training run to a bundle."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from showtell.data.caption_files import Example
from showtell.encoder import Encoder
from showtell.errors import ConfigurationError, ShowtellError
from showtell.evaluation.evaluator import MIN_RELIABLE_IMAGES, evaluate_captioner
from showtell.inference.bundle import Bundle
from showtell.inference.captioner import Captioner
from showtell.inference.search import search
from showtell.metrics.scores import DocumentFrequencies, Scores, tokenize
from showtell.training.batches import TrainingSplit
from showtell.training.decoders import Decoder, KerasDecoderStep
from showtell.training.fine_tuning import int8_encoder_file, tuned_encoder
from showtell.training.graphs import decoder_graphs, encoder_graph
from showtell.training.phases import best_decoder
from showtell.training.quantize import calibration_images, is_quantized, quantize_decoder, quantize_encoder
from showtell.training.run import Run

PARITY_IMAGES = 100
FREQUENT_NGRAMS = 40_000  # about 0.7 MB of English


def export(
    run: Run,
    encoder: Encoder,
    training: TrainingSplit,
    validation: TrainingSplit | None,
    int8: bool = False,
    card: str | None = None,
    say: Callable[[str], None] = print,
) -> Bundle:
    """Make a bundle of a run's best checkpoint, and check it against Keras.

    The float bundle must caption the first 100 validation images as Keras does. With `int8` it is quantised, and the
    scores of both on the validation images are printed.

    Args:
        run: a run that knows where its images are.
        encoder: the encoder of the run's features.
        training: images for calibration.
        validation: images for the parity check and the scores; without, the bundle is not scored.
        int8: whether to quantise encoder and decoder to 8 bits.
        card: what the model card says before scores and settings: the data and their terms, what it is bad at.
        say: called with lines for people.

    Raises:
        ConfigurationError: if the run does not know its images.
        ShowtellError: if the bundle does not do what Keras does.
    """
    if not run.sources.images:
        raise ConfigurationError(f"{run.folder}: export checks the bundle on images; name their folder with --images")
    validation_folder = Path(run.sources.images[-1])
    parity = _load(encoder, validation_folder, (validation or training).images[:PARITY_IMAGES])
    # CIDEr of a few images is then like that of the validation images, which this bundle's scores are told for. With
    # training's frequencies, of more images, scores would be lower than those that one compares them with; but better
    # those than none.
    measured_on = validation if validation and len(validation.images) >= MIN_RELIABLE_IMAGES else training
    frequencies = DocumentFrequencies.from_references([[*map(tokenize, texts)] for texts in measured_on.references])
    decoder = best_decoder(run.final)
    float_encoder, int8_encoder = _encoder_files(run, encoder, training, int8)
    start, step = decoder_graphs(decoder)
    files = {
        "vocabulary.json": run.vocabulary.to_json().encode(),
        "encoder.onnx": float_encoder,
        "decoder_start.onnx": start.SerializeToString(),
        "decoder_step.onnx": step.SerializeToString(),
        "MODEL_CARD.md": b"",
        "document_frequencies.json": frequencies.commonest(FREQUENT_NGRAMS).to_json().encode(),
    }
    description = {"kind": decoder.kind, **decoder.config}
    has_attention = "attention" in decoder.recurrent_state_names()
    bundle = Bundle(encoder.info, description, "float32", run.search_options, files, has_attention=has_attention)
    _check_parity(bundle, encoder, decoder, parity, say)
    scores = score(bundle, validation_folder, validation, say) if validation else None
    say(_line("float", scores, bundle))
    if int8_encoder is not None:
        pixels = calibration_images(encoder.info.preprocess, Path(run.sources.images[0]), training.images)
        (features,) = Captioner([replace(bundle, files={**files, "encoder.onnx": int8_encoder})]).encode([pixels])
        start8, step8 = quantize_decoder(
            files["decoder_start.onnx"], files["decoder_step.onnx"], features, bundle.search_options
        )
        files |= {"encoder.onnx": int8_encoder, "decoder_start.onnx": start8, "decoder_step.onnx": step8}
        bundle = replace(bundle, precision="int8", files=files)
        scores = score(bundle, validation_folder, validation, say) if validation else None
        say(_line("int8", scores, bundle))
    files["MODEL_CARD.md"] = _card(run, bundle, scores, card).encode()
    return replace(bundle, files=files, scores={"validation": _figures(scores)} if scores else {})


def score(bundle: Bundle, folder: Path, split: TrainingSplit, say: Callable[[str], None]) -> Scores:
    """Score a bundle on the images of a split, as `showtell evaluate` does."""
    examples = [Example(name, tuple(texts)) for name, texts in zip(split.images, split.references, strict=True)]
    return evaluate_captioner(Captioner([bundle]), examples, folder).scores


def _encoder_files(run: Run, encoder: Encoder, training: TrainingSplit, int8: bool) -> tuple[bytes, bytes | None]:
    if run.fine_tuning:
        folder = run.fine_tuning.folder
        tuned_encoder(run.fine_tuning, training, int8)
        return (folder / "encoder.onnx").read_bytes(), int8_encoder_file(run.fine_tuning).read_bytes() if int8 else None
    model = run.start_encoder.read_bytes() if run.start_encoder else encoder_graph(encoder).SerializeToString()
    if not int8:
        return model, None
    if is_quantized(model):
        return model, model
    images = calibration_images(encoder.info.preprocess, Path(run.sources.images[0]), training.images)
    return model, quantize_encoder(model, images)


def _load(encoder: Encoder, folder: Path, names: Sequence[str]) -> np.ndarray:
    return np.stack([encoder.info.preprocess.load(folder / name) for name in names])


def _check_parity(
    bundle: Bundle,
    encoder: Encoder,
    decoder: Decoder,
    pixels: np.ndarray,
    say: Callable[[str], None],
) -> None:
    features = np.concatenate([encoder.encode(pixels[start : start + 8]) for start in range(0, len(pixels), 8)])
    expected = search(KerasDecoderStep(decoder), features, bundle.search_options)
    captioner = Captioner([bundle])
    found: list[Any] = []
    for start in range(0, len(pixels), 8):
        found += captioner.search([pixels[start : start + 8]], bundle.search_options)
    differing = sum(ours[0].tokens != theirs[0].tokens for ours, theirs in zip(found, expected, strict=True))
    if differing:
        raise ShowtellError(
            f"the exported model captions {differing} of {len(pixels)} images otherwise than Keras does"
        )
    say(f"parity: the same captions as Keras on {len(pixels)} images")


def _line(name: str, scores: Scores | None, bundle: Bundle) -> str:
    size = sum(map(len, bundle.files.values())) / 1e6
    if scores is None:
        return f"{name}: {size:.1f} MB, not scored: the run has no validation captions"
    bleus = " ".join(f"{value:.1f}" for value in (scores.bleu_1, scores.bleu_2, scores.bleu_3, scores.bleu_4))
    return f"{name}: {size:.1f} MB, BLEU-1..4 {bleus}, ROUGE-L {scores.rouge_l:.1f}, CIDEr {scores.cider:.1f}"


def _card(run: Run, bundle: Bundle, scores: Scores | None, introduction: str | None) -> str:
    introduction = introduction or (
        "# A captioner trained with showtell\n\nIt describes pictures like those that it was trained on, in the words "
        "of their captions; on others it guesses."
    )
    lines = [introduction.rstrip(), "\n## Scores\n"]
    if scores is None:
        lines += ["None: there were no validation captions."]
    else:
        lines += [
            f"On {len(scores.per_image)} validation images, beam size {bundle.search_options.beam_size}, "
            f"length penalty {bundle.search_options.length_penalty:g}, {date.today().isoformat()}. "
            "`showtell evaluate` gives the same.\n",
            "| metric | value |\n|---|---|",
            *(f"| {name} | {value:.2f} |" for name, value in _figures(scores).items()),
        ]
    lines += [
        "\n## Settings\n",
        f"Encoder: {bundle.encoder}. Vocabulary: {len(run.vocabulary)} words. Precision: {bundle.precision}.\n",
        "| setting | value |\n|---|---|",
    ]
    for settings in run.recipe.to_dict().values():
        lines += [f"| {name} | {value} |" for name, value in settings.items()]
    return "\n".join(lines) + "\n"


def _figures(scores: Scores) -> dict[str, float]:
    names = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider", "distinct", "repeated_bigrams")
    return {name: getattr(scores, name) for name in names}
