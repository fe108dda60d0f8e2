"""The commands that make a captioner: prepare, extract, train, export, tutorial-data."""

import inspect
import logging
import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from showtell.cli.encoder_options import (
    EncoderName,
    EncoderWeights,
    FeatureDtype,
    Grid,
    PreparedCaptions,
    PreparedSplit,
    encoder_loader,
    load_start,
)
from showtell.cli.options import (
    CaptionFormat,
    Folders,
    SkipMissing,
    StartFrom,
    exit_stack,
    resume_hint_on_interrupt,
    say,
)
from showtell.errors import ConfigurationError
from showtell.recipe import DataConfig, EncoderConfig, Recipe
from showtell.utils.locks import exclusive_lock
from showtell.utils.progress import progress_bar
from showtell.utils.text import plural

logger = logging.getLogger(__name__)


def prepare(
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, such as captions.h5.")],
    captions: Annotated[
        Path | None, typer.Option(help="Caption file with both splits, or a folder with metadata.")
    ] = None,
    train: Annotated[
        Path | None, typer.Option(help="Caption file of the training images, where each split has one.")
    ] = None,
    val: Annotated[Path | None, typer.Option(help="Caption file of the validation images, likewise.")] = None,
    train_list: Annotated[Path | None, typer.Option(help="List of training images (Flickr8k/30k).")] = None,
    val_list: Annotated[Path | None, typer.Option(help="List of validation images (Flickr8k/30k).")] = None,
    format_: CaptionFormat = None,
    images: Folders = None,
    skip_missing: SkipMissing = False,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="word, or bpe or char for languages without blanks between words. (word)"),
    ] = None,
    vocabulary_size: Annotated[int, typer.Option(help="Most frequent words to keep.")] = DataConfig.vocabulary_size,
    min_count: Annotated[int, typer.Option(help="Times a word must occur to be kept.")] = DataConfig.min_count,
    max_length: Annotated[int, typer.Option(help="Tokens a caption is padded to.")] = DataConfig.max_length,
    start_from: StartFrom = None,
) -> None:
    """Index captions: words to numbers, padded rows, the image of each; all in one .h5 file."""
    from showtell import data

    start = load_start(start_from) if start_from else None
    if start and tokenizer:
        start.require_agreement({"tokenizer": tokenizer})
    config = DataConfig(tokenizer or DataConfig.tokenizer, vocabulary_size, min_count, max_length)
    exit_stack.enter_context(exclusive_lock(output, data.vocabulary_path(output)))
    data.require_new_captions_h5(output)
    examples = data.load_examples(
        captions, {"train": train, "val": val}, {"train": train_list, "val": val_list}, format_
    )
    if images:
        examples = data.select_with_images(examples, images, skip_missing)
    caption_data = data.build_caption_data(examples, config, start.vocabulary if start else None)
    data.write_captions_h5(output, caption_data, source=str(captions or train))
    print(caption_data.summary())


def extract(
    images: Annotated[Path, typer.Argument(help="Folder of images.")],
    output: Annotated[str, typer.Option("--output", "-o", help="File to write, NAME.npy.")],
    encoder: EncoderName = EncoderConfig.encoder,
    encoder_weights: EncoderWeights = EncoderConfig.encoder_weights,
    grid: Grid = False,
    dtype: FeatureDtype = "float16",
    captions: PreparedCaptions = None,
    split: PreparedSplit = "train",
    start_from: StartFrom = None,
) -> None:
    """Extract image features. Running the same command again resumes an interrupted extraction."""
    from showtell.data import extract_features, read_image_names
    from showtell.images import list_images

    load = encoder_loader(EncoderConfig(encoder, encoder_weights, grid), start_from)
    if captions is None:
        chosen = list_images(images)
    else:
        chosen = [(name, images / name) for name in read_image_names(captions, split)]
    loaded = load()
    with resume_hint_on_interrupt(), progress_bar("extracting") as advance:
        features = extract_features(chosen, loaded, output, dtype, advance)
    for _, reason in features.failed:
        logger.warning(reason)
    count, cells, channels = features.array.shape
    print(f"{output}: features of {plural(count, 'image')}, {cells} x {channels} each")
    if features.failed:
        raise typer.Exit(1)


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each setting of a recipe, collected in its last parameter."""
    signature = inspect.signature(command)
    parameters = list(signature.parameters.values())[:-1]
    sections: list[Any] = [section.default for section in fields(Recipe)]
    for section in sections:
        for setting in fields(section):
            kind: Any = setting.type
            option = typer.Option(
                help=f"{setting.metadata['help']} ({'none' if setting.default == '' else setting.default})",
                rich_help_panel=f"Recipe: {section.__doc__}",
            )
            annotation = Annotated[kind | None, option]
            parameters.append(
                inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            )

    def wrapped(**arguments: Any) -> None:
        own = {name: arguments.pop(name) for name in list(signature.parameters)[:-1]}
        command(**own, settings={name: value for name, value in arguments.items() if value is not None})

    wrapped.__doc__, wrapped.__name__ = command.__doc__, command.__name__
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped


@_with_settings
def train(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="Folder of the run.")],
    recipe: Annotated[Path | None, typer.Option(help="TOML file of settings; options override it.")] = None,
    captions: Annotated[
        Path | None, typer.Option(help="captions.h5; or any caption file or folder, to be prepared first.")
    ] = None,
    features: Annotated[
        list[Path] | None, typer.Option(help="Features; give it twice if training and validation have a file each.")
    ] = None,
    images: Folders = None,
    format_: CaptionFormat = None,
    skip_missing: SkipMissing = False,
    start_from: StartFrom = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped; needs nothing else.")] = False,
    devices: Annotated[
        int, typer.Option(help="Devices that share each batch, such as GPUs; more than one need KERAS_BACKEND=jax.")
    ] = 1,
    settings: Any = None,
) -> None:
    """Train a captioner, from captions.h5 and features, or from images and captions in one go."""
    if resume and (recipe or captions or features or images or format_ or skip_missing or start_from or settings):
        raise ConfigurationError("--resume goes on with the settings that the run began with; give no others")
    chosen = (Recipe.load(recipe) if recipe else Recipe()).override(settings)
    exit_stack.enter_context(exclusive_lock(output))
    from showtell.training import require_keras

    require_keras("training")
    from showtell.data import load_examples
    from showtell.training import pipeline
    from showtell.training.devices import use_devices
    from showtell.training.run import DataPaths, Run
    from showtell.training.trainer import train as train_run

    use_devices(devices)
    advice = f"make a bundle of the best checkpoint with: showtell export {shlex.quote(str(output))} -o BUNDLE"
    start = load_start(start_from) if start_from else None
    if start:
        start.require_agreement(settings)
    if resume:
        run = Run.open(output)
        if run.is_finished:
            say(f"the run is finished; {advice}")
            return
        training, validation = pipeline.load(run)
    elif captions and captions.suffix in (".h5", ".hdf5") and not features:
        raise ConfigurationError(f"{captions} needs --features; make them with: showtell extract")
    elif features and captions:
        sources = DataPaths.at(captions, features, images or (), skip_missing)
        run, training, validation = pipeline.create_run(output, chosen, sources, start)
    elif images and len(images) == 1 and not features:
        Run.require_free(output)
        examples = load_examples(captions or images[0], caption_format=format_)
        with resume_hint_on_interrupt(), progress_bar("extracting") as advance:
            sources = pipeline.prepare_run(output, chosen, examples, images[0], skip_missing, say, advance, start)
        run, training, validation = pipeline.create_run(output, chosen, sources, start)
    else:
        raise ConfigurationError("give --captions captions.h5 and --features, or --images and --captions")
    with progress_bar("training", "steps") as advance:
        train_run(run, training, validation, say, advance)
    say(f"done; {advice}")


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="BUNDLE", help="Folder, or file ending in .zip.")],
    int8: Annotated[bool, typer.Option("--int8", help="Quantise to 8 bits.")] = False,
    images: Folders = None,
    encoder_weights: Annotated[str | None, typer.Option(help="Weights of the encoder. (as in training)")] = None,
    card: Annotated[
        Path | None, typer.Option(help="Text to begin the model card with; scores and settings follow.")
    ] = None,
    phase: Annotated[
        Literal["cross-entropy", "fine-tuning", "self-critical"] | None,
        typer.Option(help="Export what this phase has left. (the last)"),
    ] = None,
) -> None:
    """Make a bundle of the best checkpoint of a run, and check it against Keras."""
    exit_stack.enter_context(exclusive_lock(output))
    from showtell.training import require_keras

    require_keras("export")
    from showtell.training.pipeline import export_run

    bundle = export_run(run, output, int8, images or (), encoder_weights, card, phase, say)
    unpacked = " unpacked" if output.suffix == ".zip" else ""
    print(f"{output}: {sum(map(len, bundle.files.values())) / 1e6:.1f} MB{unpacked}")


def tutorial_data(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write.")],
    images: Annotated[int, typer.Option(help="Pictures to draw.")] = 600,
    relations: Annotated[bool, typer.Option("--relations", help="Two shapes a picture, and where they lie.")] = False,
    seed: Annotated[int, typer.Option(help="Seed; the same draws the same.")] = 0,
) -> None:
    """Draw a small data set of coloured shapes with captions, to learn and try training with."""
    from showtell.data.tutorial import write_tutorial_data

    write_tutorial_data(folder, images, seed, relations)
    print(f"{folder}: {images} pictures; train on them with: showtell train -o RUN --images {shlex.quote(str(folder))}")
