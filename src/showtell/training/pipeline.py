"""Training and export, for the command line and the Python API."""

import logging
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from showtell.data import (
    Example,
    Features,
    build_caption_data,
    extract_features,
    load_examples,
    read_captions_h5,
    select_with_images,
    write_captions_h5,
)
from showtell.encoder import Encoder, EncoderInfo
from showtell.errors import BundleError, ConfigurationError, Interrupted, MismatchError
from showtell.inference.bundle import Bundle
from showtell.inference.onnx_models import OnnxEncoder, open_session
from showtell.recipe import Recipe
from showtell.training.batches import TrainingSplit, join_features
from showtell.training.encoders import load_encoder, load_matching_encoder
from showtell.training.export import TrainedRun, export_bundle
from showtell.training.run import DataPaths, Run
from showtell.training.trainer import train
from showtell.training.tuned_encoder import load_fine_tuned_encoder
from showtell.training.warm_start import WarmStart, load_warm_start
from showtell.utils.locks import exclusive_lock
from showtell.vocabulary import Vocabulary

# Given a task and a unit, returns a context manager for a progress callback, such as utils.progress.progress_bar.
Progress = Callable[[str, str], AbstractContextManager[Callable[..., None]]]

logger = logging.getLogger(__name__)


def no_progress(task: str, unit: str) -> AbstractContextManager[Callable[..., None]]:
    """Show no progress."""
    return nullcontext(lambda *counts: None)


@dataclass(frozen=True)
class TrainingData:
    """The data to train on.

    Either `captions` is a captions.h5 file and `features` are its features, or `images` is one folder and `captions` is
    any caption file; then captions.h5 and features are created in the run folder.

    Attributes:
        captions: captions.h5, or a caption file; None if the image folder contains the captions.
        features: the feature file, or one each for training and validation.
        images: the image folder, or one each for training and validation.
        caption_format: the format of the caption file; None to detect it.
        skip_missing: skip captioned images without a file or features instead of raising an error.
    """

    captions: Path | None = None
    features: Sequence[Path] = ()
    images: Sequence[Path] = ()
    caption_format: str | None = None
    skip_missing: bool = False


@dataclass(frozen=True)
class ExportOptions:
    """The options of an export.

    Attributes:
        int8: quantise encoder and decoder to 8 bits.
        images: the image folder, or one each for training and validation, if they were moved since the training.
        encoder_weights: the weights of the encoder, if they were moved since the training.
        card: a text file with the start of the model card.
        phase: export the result of this phase instead of the last one.
        data_license: terms of the training data in one line.
    """

    int8: bool = False
    images: Sequence[Path] = ()
    encoder_weights: str | None = None
    card: Path | None = None
    phase: str | None = None
    data_license: str = ""


def train_run(
    folder: Path,
    recipe: Recipe,
    data: TrainingData,
    settings: Mapping[str, Any] = {},
    start_from: Path | None = None,
    progress: Progress = no_progress,
) -> Run:
    """Create a training run in `folder` and train it.

    Args:
        folder: the folder of the run. It may contain captions and features of an interrupted command, but no run.
        recipe: the settings.
        data: the data.
        settings: setting -> value, to override the recipe.
        start_from: a run or bundle to start from instead of random weights.
        progress: shows the progress.

    Raises:
        ConfigurationError: if there is a run in `folder`, or if settings or data are invalid.
        MismatchError: if captions and features do not belong together, or not to `start_from`.
        Interrupted: if the training was stopped.
        ShowtellError: if data cannot be read, or the training fails.
    """
    with exclusive_lock(folder):
        start = load_warm_start(start_from) if start_from else None
        if start:
            start.require_agreement(settings)
        recipe = recipe.override(dict(settings))
        data_paths = _require_data_paths(folder, data, recipe, start, progress)
        run, training, validation = create_run(folder, recipe, data_paths, start)
        _train(run, training, validation, progress)
    return run


def resume_run(folder: Path, progress: Progress = no_progress) -> Run:
    """Resume an interrupted training run. Do nothing if it is finished.

    Raises:
        ConfigurationError: if there is no run in `folder`.
        MismatchError: if its data have changed.
        Interrupted: if the training was stopped.
        ShowtellError: if data cannot be read, or the training fails.
    """
    with exclusive_lock(folder):
        run = Run.open(folder)
        if run.is_finished:
            logger.info("the run is finished; %s", _export_hint(folder))
        else:
            _train(run, *load_data(run), progress)
    return run


def export_run(folder: Path, output: Path, options: ExportOptions = ExportOptions()) -> Bundle:
    """Export a run as a bundle, and write it to `output`, a folder or a .zip file.

    Raises:
        ConfigurationError: if encoder or images of the run are unknown, or an option is invalid.
        MismatchError: if the encoder is not the one of the run's features.
        BundleError: if `output` exists.
        ShowtellError: if the captions of the bundle differ from those of Keras.
    """
    with exclusive_lock(output):
        if output.exists():
            raise BundleError(f"{output}: already exists; remove it, or choose another name")
        introduction = _read_card(options.card) if options.card else None
        trained = _load_trained_run(folder, options)
        bundle = export_bundle(trained, options.int8, introduction, options.data_license)
        bundle.save(output)
    return bundle


def create_run(
    folder: Path, recipe: Recipe, data_paths: DataPaths, start: WarmStart | None = None
) -> tuple[Run, TrainingSplit, TrainingSplit | None]:
    """Create a run for prepared data, and load the data.

    Args:
        folder: the folder of the run.
        recipe: the settings. Those that the data or `start` determine are replaced.
        data_paths: captions.h5 and features.
        start: the captioner to start from, if any.

    Returns:
        The run, its training data, and its validation data if there are any.

    Raises:
        ConfigurationError: if there is a run in `folder`, or the recipe does not fit the features.
        MismatchError: if captions and features do not belong together, or not to `start`.
        ShowtellError: if the data cannot be read.
    """
    vocabulary, encoder, training, validation = _load_splits(data_paths)
    if start:
        start.require_match(vocabulary, data_paths.captions, encoder, data_paths.features[0])
        recipe = start.apply_to(recipe)
        data_paths = replace(data_paths, start_from=str(start.path.resolve()))
    _require_grid(recipe, training.features.shape[1] > 1, f"extract {data_paths.features[0]} again with --grid")
    settings: dict[str, object] = {"tokenizer": vocabulary.kind, "max_length": training.captions.shape[1]}
    if encoder is not None:
        settings |= {"encoder": encoder.name, "grid": encoder.cells > 1}
    if recipe.model.word_vectors:
        settings["word_vectors"] = os.path.realpath(recipe.model.word_vectors)
    recipe = recipe.override(settings)
    Run.require_no_run(folder)
    if start:
        start.save_to(folder)  # before settings.json, which makes the folder a run
    run = Run.create(folder, recipe, data_paths, encoder, vocabulary)
    return run, training, validation


def load_data(run: Run) -> tuple[TrainingSplit, TrainingSplit | None]:
    """Load training and validation data of a run. Raises MismatchError if captions or features have changed."""
    vocabulary, encoder, training, validation = _load_splits(run.data_paths)
    if vocabulary.fingerprint != run.vocabulary.fingerprint:
        raise MismatchError(
            f"{run.data_paths.captions} has vocabulary {vocabulary.fingerprint}, but the run in {run.folder} was "
            f"created with {run.vocabulary.fingerprint}; restore the original file"
        )
    if encoder is not None and run.encoder is not None:
        encoder.require_same(run.encoder, run.data_paths.features[0], str(run.folder))
    return training, validation


def prepare_data(
    folder: Path,
    recipe: Recipe,
    examples: Sequence[Example],
    data: TrainingData,
    start: WarmStart | None = None,
    progress: Progress = no_progress,
) -> DataPaths:
    """Write captions.h5 and the features of the captioned images to a run folder. Existing features are kept.

    Args:
        folder: the folder of the run.
        recipe: the settings.
        examples: images with captions.
        data: where the images are.
        start: the captioner to start from, if any.
        progress: shows the progress of the extraction.

    Returns:
        The paths of the files.
    """
    if start:
        recipe = start.apply_to(recipe)
    _require_grid(recipe, recipe.encoder.grid, "pass --grid too")
    (images,) = data.images
    examples = select_with_images(examples, [images], data.skip_missing)
    caption_data = build_caption_data(examples, recipe.data, start.vocabulary if start else None)
    for line in caption_data.summary().splitlines():
        logger.info("%s", line)
    write_captions_h5(folder / "captions.h5", caption_data, source=str(images))
    names = [name for split in caption_data.splits.values() for name in split.images or ()]
    encoder = start.load_encoder(recipe.encoder.encoder_weights) if start else load_encoder(recipe.encoder)
    logger.info("extracting features of %d images with %s", len(names), encoder.info)
    with progress("extracting", "images") as advance:
        features = extract_features(
            [(name, images / name) for name in names], encoder, folder / "features.npy", progress=advance
        )
    for _, reason in features.failed:
        logger.warning("skipped: %s", reason)
    return DataPaths.resolve(folder / "captions.h5", [folder / "features.npy"], [images], skip_missing=True)


def _require_data_paths(
    folder: Path, data: TrainingData, recipe: Recipe, start: WarmStart | None, progress: Progress
) -> DataPaths:
    """Return the paths of prepared data, after preparing them if necessary."""
    if data.captions and data.features:
        return DataPaths.resolve(data.captions, data.features, data.images, data.skip_missing)
    if data.captions and data.captions.suffix in (".h5", ".hdf5"):
        raise ConfigurationError(f"{data.captions} needs --features; create them with `showtell extract`")
    if data.features or len(data.images) != 1:
        raise ConfigurationError("pass --captions captions.h5 with --features, or one folder --images with --captions")
    Run.require_no_run(folder)
    examples = load_examples(data.captions or data.images[0], caption_format=data.caption_format)
    return prepare_data(folder, recipe, examples, data, start, progress)


def _train(run: Run, training: TrainingSplit, validation: TrainingSplit | None, progress: Progress) -> None:
    try:
        with progress("training", "steps") as advance:
            train(run, training, validation, advance)
    except KeyboardInterrupt:  # before the first step; from then on, Ctrl-C stops after a step
        command = f"showtell train -o {shlex.quote(str(run.folder))} --resume"
        raise Interrupted(f"stopped; resume with: {command}") from None
    logger.info("done; %s", _export_hint(run.folder))


def _export_hint(folder: Path) -> str:
    return f"export the best checkpoint with: showtell export {shlex.quote(str(folder))} -o BUNDLE"


def _load_trained_run(folder: Path, options: ExportOptions) -> TrainedRun:
    run = Run.open(folder)
    if options.phase:
        run = run.ending_with(options.phase)
    info = run.encoder
    if info is None:
        raise ConfigurationError(
            f"{folder}: the encoder of the features is unknown, and a bundle needs it; train with features made by "
            "`showtell extract`"
        )
    if options.images:
        run = replace(run, data_paths=replace(run.data_paths, images=tuple(map(str, options.images))))
    training, validation = load_data(run)
    if run.fine_tuning:
        encoder: Encoder = load_fine_tuned_encoder(run.fine_tuning, training, int8=False)
    elif run.start_encoder:
        encoder = OnnxEncoder(open_session(run.start_encoder), info)
    else:
        config = run.recipe.encoder
        if options.encoder_weights:
            config = replace(config, encoder_weights=options.encoder_weights)
        encoder = load_matching_encoder(config, info, folder)
    return TrainedRun(run, encoder, training, validation)


def _read_card(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot read the text for the model card: {error}") from None


def _require_grid(recipe: Recipe, has_grid: bool, hint: str) -> None:
    if recipe.model.decoder == "show_attend_tell" and not has_grid:
        raise ConfigurationError(f"the decoder show_attend_tell needs the features of a grid; {hint}")


def _load_splits(
    data_paths: DataPaths,
) -> tuple[Vocabulary, EncoderInfo | None, TrainingSplit, TrainingSplit | None]:
    data = read_captions_h5(data_paths.captions)
    feature_files = [Features.open(path) for path in data_paths.features]
    first, last = feature_files[0], feature_files[-1]
    if first.encoder is not None and last.encoder is not None:
        first.encoder.require_same(last.encoder, data_paths.features[0], data_paths.features[-1])
    if first.array.shape[1:] != last.array.shape[1:]:
        raise MismatchError(
            f"{data_paths.features[0]} has features of shape {first.array.shape[1:]}, but {data_paths.features[-1]} "
            f"of {last.array.shape[1:]}; extract both with the same encoder"
        )
    training = join_features(data.splits["train"], first, data.vocabulary, data_paths.skip_missing)
    validation = None
    if "val" in data.splits:
        if first.images is None and len(feature_files) == 1:
            raise ConfigurationError(
                f"{data_paths.features[0]} does not name its images, so training and validation need separate files; "
                "pass --features twice"
            )
        validation = join_features(data.splits["val"], last, data.vocabulary, data_paths.skip_missing)
    return data.vocabulary, first.encoder, training, validation
