"""What lies before training: reading or making captions.h5 and features, and joining them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from showtell.data import (
    Example,
    Features,
    build_caption_data,
    extract_features,
    read_captions_h5,
    select_with_images,
    write_captions_h5,
)
from showtell.encoder import Encoder, EncoderInfo
from showtell.errors import BundleError, ConfigurationError, MismatchError
from showtell.inference.bundle import Bundle
from showtell.inference.onnx_models import OnnxEncoder, open_session
from showtell.recipe import Recipe
from showtell.training.batches import TrainingSplit, join
from showtell.training.encoders import load_encoder
from showtell.training.run import DataPaths, Run
from showtell.training.warm_start import WarmStart
from showtell.vocabulary import Vocabulary

Say = Callable[[str], None]
Count = Callable[[int, int], None]


def prepare_run(
    folder: Path,
    recipe: Recipe,
    examples: list[Example],
    images: Path,
    skip_missing: bool,
    say: Say,
    progress: Count,
    start: WarmStart | None = None,
) -> DataPaths:
    """Write captions.h5 and the features of the captioned images into a run's folder, going on where it stopped."""
    if start:
        recipe = start.applied_to(recipe)
    if recipe.model.decoder == "show_attend_tell" and not recipe.encoder.grid:
        raise ConfigurationError("show_attend_tell looks at the cells of a grid; give --grid too")
    examples = select_with_images(examples, [images], skip_missing)
    data = build_caption_data(examples, recipe.data, start.vocabulary if start else None)
    say(data.summary())
    write_captions_h5(folder / "captions.h5", data, source=str(images))
    names = [name for split in data.splits.values() for name in split.images or ()]
    encoder = start.load_encoder(recipe.encoder.encoder_weights) if start else load_encoder(recipe.encoder)
    say(f"extracting features of {len(names)} images with {encoder.info}")
    features = extract_features(
        [(name, images / name) for name in names], encoder, folder / "features.npy", progress=progress
    )
    for _, reason in features.failed:
        say(f"left out: {reason}")
    return DataPaths.at(folder / "captions.h5", [folder / "features.npy"], [images], skip_missing=True)


def create_run(
    folder: Path, recipe: Recipe, sources: DataPaths, start: WarmStart | None = None
) -> tuple[Run, TrainingSplit, TrainingSplit | None]:
    """Begin a run on prepared data, and load them.

    Raises:
        ConfigurationError: if there is a run in `folder` already.
        MismatchError: if words or features are not those of the start.
        ShowtellError: if the data cannot be read or do not belong together.
    """
    vocabulary, encoder, training, validation = _load(sources)
    if start:
        start.require_fitting(vocabulary, sources.captions, encoder, sources.features[0])
        recipe = start.applied_to(recipe)
        sources = replace(sources, start_from=str(start.path.resolve()))
    if recipe.model.decoder == "show_attend_tell" and training.features.shape[1] == 1:
        raise ConfigurationError(
            f"show_attend_tell looks at the cells of a grid, but {sources.features[0]} has one vector an image; "
            "extract the features with --grid"
        )
    settings: dict[str, object] = {"tokenizer": vocabulary.kind, "max_length": training.captions.shape[1]}
    if encoder is not None:
        settings |= {"encoder": encoder.name, "grid": encoder.cells > 1}
    if recipe.model.word_vectors:
        settings["word_vectors"] = str(Path(recipe.model.word_vectors).resolve())
    recipe = recipe.override(settings)
    Run.require_free(folder)
    if start:
        start.keep_in(folder)  # before the settings: what is there without them is no run
    run = Run.create(folder, recipe, sources, encoder, vocabulary)
    return run, training, validation


def load(run: Run) -> tuple[TrainingSplit, TrainingSplit | None]:
    """Load the data of a run. Raises MismatchError if they are no longer what it began with."""
    vocabulary, encoder, training, validation = _load(run.sources)
    if vocabulary.fingerprint != run.vocabulary.fingerprint:
        raise MismatchError(
            f"{run.sources.captions} has vocabulary {vocabulary.fingerprint}, but the run in {run.folder} began with "
            f"{run.vocabulary.fingerprint}; put the original file back"
        )
    if encoder is not None and run.encoder is not None:
        encoder.require_same(run.encoder, run.sources.features[0], str(run.folder))
    return training, validation


def export_run(
    folder: Path,
    output: Path,
    int8: bool,
    images: Sequence[Path],
    encoder_weights: str | None,
    card: Path | None,
    phase: str | None,
    say: Say,
) -> Bundle:
    """Export the run in a folder, perhaps as it was after an earlier phase, as a bundle, and write it.

    Raises:
        ConfigurationError: if the run lacks what a bundle needs: its encoder, its images.
        MismatchError: if the encoder's weights are not those of the run's features.
        BundleError: if there is something at `output` already.
    """
    from showtell.training.export import export
    from showtell.training.fine_tuning import tuned_encoder

    if output.exists():
        raise BundleError(f"{output}: exists already; remove it first, or give another name")
    try:
        text = card.read_text(encoding="utf-8") if card else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{card}: cannot read the text for the model card: {error}") from None
    run = Run.open(folder)
    if phase:
        run = run.until(phase)
    recorded = run.encoder
    if recorded is None:
        raise ConfigurationError(f"{folder}: its features do not say which encoder made them, and a bundle needs it")
    if images:
        run = replace(run, sources=replace(run.sources, images=tuple(map(str, images))))
    training, validation = load(run)
    if run.fine_tuning:
        encoder: Encoder = tuned_encoder(run.fine_tuning, training, int8=False)
    elif run.start_encoder:
        encoder = OnnxEncoder(open_session(run.start_encoder), recorded)
    else:
        settings = run.recipe.encoder
        encoder = load_encoder(replace(settings, encoder_weights=encoder_weights or settings.encoder_weights))
        if encoder.info != recorded:
            raise MismatchError(
                f"{folder} was trained on features of {recorded}, but the encoder at hand is {encoder.info}; "
                "name the weights that those features were extracted with: --encoder-weights"
            )
    bundle = export(run, encoder, training, validation, int8, text, say)
    bundle.save(output)
    return bundle


def _load(sources: DataPaths) -> tuple[Vocabulary, EncoderInfo | None, TrainingSplit, TrainingSplit | None]:
    data = read_captions_h5(sources.captions)
    opened = [Features.open(path) for path in sources.features]
    first, last = opened[0], opened[-1]
    if first.encoder is not None and last.encoder is not None:
        first.encoder.require_same(last.encoder, sources.features[0], sources.features[-1])
    if first.array.shape[1:] != last.array.shape[1:]:
        raise MismatchError(
            f"{sources.features[0]} has features of shape {first.array.shape[1:]}, {sources.features[-1]} of "
            f"{last.array.shape[1:]}; they must be of one encoder"
        )
    training = join(data.splits["train"], first, data.vocabulary, sources.skip_missing)
    validation = None
    if "val" in data.splits:
        if first.images is None and len(opened) == 1:
            raise ConfigurationError(
                f"{sources.features[0]} does not name its images, so that training and validation each need a file of "
                "their own; give --features twice"
            )
        validation = join(data.splits["val"], last, data.vocabulary, sources.skip_missing)
    return data.vocabulary, first.encoder, training, validation
