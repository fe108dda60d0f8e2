"""Training, export and evaluation from Python. Each function does what the command of the same name does."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from showtell.errors import ConfigurationError
from showtell.inference.bundle import Bundle
from showtell.inference.captioner import Captioner
from showtell.recipe import Recipe

if TYPE_CHECKING:
    from showtell.evaluation.evaluator import Evaluation

PathLike = str | os.PathLike[str]


def train(
    recipe: Recipe | PathLike | None = None,
    *,
    output: PathLike,
    images: PathLike | Sequence[PathLike] = (),
    captions: PathLike | None = None,
    features: PathLike | Sequence[PathLike] = (),
    caption_format: str | None = None,
    skip_missing: bool = False,
    start_from: PathLike | None = None,
    resume: bool = False,
    **settings: Any,
) -> Path:
    """Train a captioner (extra [train]).

    Pass `images`, and `captions` unless the image folder contains them. Alternatively, pass a captions.h5 file as
    `captions`, and its feature files as `features`.

    Args:
        recipe: a recipe or a TOML file; None for the default settings.
        output: folder of the run.
        images: image folder, or one each for training and validation.
        captions: caption file in any supported format, or captions.h5.
        features: feature file, or one each for training and validation.
        caption_format: format of the caption file; detected by default.
        skip_missing: skip captions whose image is missing, instead of raising an error.
        start_from: run or bundle to start from; "default" is the shipped bundle.
        resume: resume an interrupted run in `output`, with its own settings and data.
        settings: settings of the recipe to change, such as `epochs=5`.

    Returns:
        The folder of the run.

    Raises:
        MissingExtra: if Keras is not installed.
        ConfigurationError: if a setting is unknown or invalid, or `output` already contains a run.
        CaptionFileError: if the captions cannot be read.
        MismatchError: if captions, features and `start_from` do not match.
        Interrupted: if the training was stopped; pass `resume=True` to continue.

    Examples:
        >>> import showtell
        >>> run = showtell.train(images="photos", output="runs/photos", epochs=5)  # doctest: +SKIP
    """
    from showtell.training import require_keras

    require_keras("training")
    from showtell.training.pipeline import TrainingData, resume_run, train_run

    if resume:
        if recipe or images or captions or features or caption_format or skip_missing or start_from or settings:
            raise ConfigurationError("resume uses the settings and data of the run; leave out all other arguments")
        return resume_run(Path(output)).folder
    data = TrainingData(
        None if captions is None else Path(captions), _paths(features), _paths(images), caption_format, skip_missing
    )
    loaded = recipe if isinstance(recipe, Recipe) else Recipe() if recipe is None else Recipe.load(Path(recipe))
    start = None if start_from is None else Path(start_from)
    return train_run(Path(output), loaded, data, settings, start).folder


def export(
    run: PathLike,
    output: PathLike,
    *,
    int8: bool = False,
    images: PathLike | Sequence[PathLike] = (),
    encoder_weights: str | None = None,
    card: PathLike | None = None,
    data_license: str = "",
    phase: Literal["cross-entropy", "fine-tuning", "self-critical"] | None = None,
) -> Bundle:
    """Export the best checkpoint of a training run as a bundle, and check it against Keras (extra [train]).

    Args:
        run: folder of a training run.
        output: bundle to write, a folder or a .zip file.
        int8: quantise to 8 bits.
        images: image folder, or one each for training and validation. Needed only if the images were moved after
            training.
        encoder_weights: weights of the encoder; by default those of the training.
        card: text file with the beginning of the model card.
        data_license: terms of the training data in one line.
        phase: training phase whose result is exported; by default the last one.

    Raises:
        MissingExtra: if Keras is not installed.
        ConfigurationError: if the encoder or the images of the run are unknown.
        BundleError: if `output` exists.

    Examples:
        >>> import showtell
        >>> bundle = showtell.export("runs/photos", "photos.zip", int8=True)  # doctest: +SKIP
    """
    from showtell.training import require_keras

    require_keras("export")
    from showtell.training.pipeline import ExportOptions, export_run

    introduction = None if card is None else Path(card)
    options = ExportOptions(int8, _paths(images), encoder_weights, introduction, phase, data_license)
    return export_run(Path(run), Path(output), options)


def evaluate(
    captioner: Captioner | Bundle | PathLike,
    *,
    captions: PathLike,
    images: PathLike,
    split: str = "dev",
    caption_format: str | None = None,
    meteor: bool = False,
    **search_options: Any,
) -> "Evaluation":
    """Score captions against reference captions: BLEU-1 to BLEU-4, ROUGE-L and CIDEr.

    Args:
        captioner: captioner, bundle, or path of a bundle; "default" is the shipped bundle.
        captions: caption file with the references, in any supported format.
        images: folder of the images.
        split: part of the captions: "train", "dev" (also called "val"), "test" or "all".
        caption_format: format of the caption file; detected by default.
        meteor: also compute METEOR, which needs Java (extra [meteor]).
        search_options: fields of `SearchOptions` to change.

    Returns:
        An evaluation: `metrics` contains the scores, and `captions` the caption of each image.

    Raises:
        CaptionFileError: if the captions cannot be read.
        ConfigurationError: if the split is empty.
        ImageError: if no image can be read.

    Examples:
        >>> import showtell
        >>> result = showtell.evaluate("default", captions="captions.csv", images="photos")  # doctest: +SKIP
    """
    from showtell.data import read_split
    from showtell.evaluation.evaluator import evaluate_captioner

    if isinstance(captioner, Bundle):
        captioner = Captioner([captioner])
    elif not isinstance(captioner, Captioner):
        captioner = Captioner.load(captioner)
    examples = read_split(Path(captions), split, caption_format)
    options = captioner.search_options.override(**search_options)
    return evaluate_captioner(captioner, examples, Path(images), options, meteor)


def _paths(paths: PathLike | Sequence[PathLike]) -> list[Path]:
    return [Path(paths)] if isinstance(paths, str | os.PathLike) else list(map(Path, paths))
