"""The commands that make a captioner: prepare, extract, train, export, tutorial-data."""

import inspect
import logging
import shlex
from collections.abc import Callable
from dataclasses import Field, fields
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
)
from showtell.cli.streams import print_line
from showtell.errors import ConfigurationError
from showtell.recipe import DataConfig, EncoderConfig, Recipe
from showtell.utils.locks import exclusive_lock
from showtell.utils.progress import progress_bar
from showtell.utils.text import plural

logger = logging.getLogger(__name__)


# The help of `prepare` is that of the settings of a recipe.
_HELP = {setting.name: setting.metadata["help"] for setting in fields(DataConfig)}


def prepare(
    output: Annotated[Path, typer.Option("--output", "-o", help="Output file, NAME.h5.")],
    captions: Annotated[
        Path | None, typer.Option(help="Caption file of training and validation images, or a folder with metadata.csv.")
    ] = None,
    train: Annotated[
        Path | None, typer.Option(help="Caption file of the training images, if each split has its own.")
    ] = None,
    val: Annotated[
        Path | None, typer.Option(help="Caption file of the validation images, if each split has its own.")
    ] = None,
    train_list: Annotated[Path | None, typer.Option(help="List of the training images (Flickr8k/30k).")] = None,
    val_list: Annotated[Path | None, typer.Option(help="List of the validation images (Flickr8k/30k).")] = None,
    format_: CaptionFormat = None,
    images: Folders = None,
    skip_missing: SkipMissing = False,
    tokenizer: Annotated[str | None, typer.Option(help=_HELP["tokenizer"], show_default=DataConfig.tokenizer)] = None,
    vocabulary_size: Annotated[int, typer.Option(help=_HELP["vocabulary_size"])] = DataConfig.vocabulary_size,
    min_count: Annotated[int, typer.Option(help=_HELP["min_count"])] = DataConfig.min_count,
    max_length: Annotated[int, typer.Option(help=_HELP["max_length"])] = DataConfig.max_length,
    start_from: StartFrom = None,
) -> None:
    """Prepare captions for training: build the vocabulary, encode the captions, and write captions.h5."""
    from showtell import data

    config = DataConfig(tokenizer or DataConfig.tokenizer, vocabulary_size, min_count, max_length)
    start = load_start(start_from) if start_from else None
    if start and tokenizer:
        start.require_agreement({"tokenizer": tokenizer})
    data.require_new_captions_h5(output)
    exit_stack.enter_context(exclusive_lock(output))
    data.require_new_captions_h5(output)
    examples = data.load_examples(
        captions, {"train": train, "val": val}, {"train": train_list, "val": val_list}, format_
    )
    if images:
        examples = data.select_with_images(examples, images, skip_missing)
    caption_data = data.build_caption_data(examples, config, start.vocabulary if start else None)
    data.write_captions_h5(output, caption_data, source=str(captions or train))
    for line in caption_data.summary().splitlines():
        print_line(line)


def extract(
    images: Annotated[Path, typer.Argument(help="Folder of images.")],
    output: Annotated[str, typer.Option("--output", "-o", help="Output file, NAME.npy.")],
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
        named_files = list_images(images)
    else:
        named_files = [(name, images / name) for name in read_image_names(captions, split)]
    loaded = load()
    with resume_hint_on_interrupt(), progress_bar("extracting") as advance:
        features = extract_features(named_files, loaded, output, dtype, advance)
    for _, reason in features.failed:
        logger.warning("skipped: %s", reason)
    count, cells, channels = features.array.shape
    print_line(f"{output}: features of {plural(count, 'image')}, {cells} x {channels} each")
    if features.failed:
        raise typer.Exit(1)


def _with_recipe_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each setting of a recipe to a command. The command gets their values in `settings`."""
    signature = inspect.signature(command)
    parameters = [parameter for name, parameter in signature.parameters.items() if name != "settings"]
    own_names = [parameter.name for parameter in parameters]
    sections: list[Any] = [section.default for section in fields(Recipe)]
    for section in sections:
        panel = f"Recipe: {section.__doc__.removesuffix('.')}"
        parameters += [_make_option(setting, panel) for setting in fields(section)]

    def run(**arguments: Any) -> None:
        own = {name: arguments.pop(name) for name in own_names}
        command(**own, settings={name: value for name, value in arguments.items() if value is not None})

    run.__doc__, run.__name__ = command.__doc__, command.__name__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _make_option(setting: Field[Any], panel: str) -> inspect.Parameter:
    default = "none" if setting.default == "" else str(setting.default)
    option = typer.Option(help=setting.metadata["help"], show_default=default, rich_help_panel=panel)
    kind: Any = setting.type
    return inspect.Parameter(
        setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


@_with_recipe_options
def train(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="Folder of the run.")],
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file with settings. Command-line options override them.")
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(
            help="Caption file or folder; or captions.h5 with --features.", show_default="metadata.csv in --images"
        ),
    ] = None,
    features: Annotated[
        list[Path] | None,
        typer.Option(help="Feature file. Use it twice if training and validation have separate files."),
    ] = None,
    images: Folders = None,
    format_: CaptionFormat = None,
    skip_missing: SkipMissing = False,
    start_from: StartFrom = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run, with its own settings and data.")] = False,
    devices: Annotated[
        int,
        typer.Option(
            help="Number of devices, such as GPUs, that share each batch. More than 1 requires the JAX backend."
        ),
    ] = 1,
    settings: Any = None,
) -> None:
    """Train a captioner on images and captions, or on captions.h5 and features."""
    if resume and (recipe or captions or features or images or format_ or skip_missing or start_from or settings):
        raise ConfigurationError("--resume uses the settings and data of the run; leave out all other options")
    loaded = Recipe.load(recipe) if recipe else Recipe()
    loaded.override(settings)  # reports invalid settings before Keras is imported
    from showtell.training import require_keras

    require_keras("training")
    from showtell.training.devices import use_devices
    from showtell.training.pipeline import TrainingData, resume_run, train_run

    use_devices(devices)
    if resume:
        resume_run(output, progress_bar)
        return
    data = TrainingData(captions, features or (), images or (), format_, skip_missing)
    with resume_hint_on_interrupt():
        train_run(output, loaded, data, settings, start_from, progress_bar)


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="BUNDLE", help="Folder or .zip file to write.")],
    int8: Annotated[bool, typer.Option("--int8", help="Quantise to 8 bits.")] = False,
    images: Folders = None,
    encoder_weights: Annotated[
        str | None, typer.Option(help="Weights of the encoder.", show_default="as in training")
    ] = None,
    card: Annotated[Path | None, typer.Option(help="Markdown file with the introduction of the model card.")] = None,
    data_license: Annotated[str, typer.Option(metavar="TEXT", help="License of the training data in one line.")] = "",
    phase: Annotated[
        Literal["cross-entropy", "fine-tuning", "self-critical"] | None,
        typer.Option(help="Training phase to export.", show_default="the last phase"),
    ] = None,
) -> None:
    """Export the best checkpoint of a run as a bundle, and compare its captions with those of the trained model."""
    from showtell.training import require_keras

    require_keras("export")
    from showtell.training.pipeline import ExportOptions, export_run

    options = ExportOptions(int8, images or (), encoder_weights, card, phase, data_license)
    bundle = export_run(run, output, options)
    unpacked = " unpacked" if output.suffix == ".zip" else ""
    print_line(f"{output}: {sum(map(len, bundle.files.values())) / 1e6:.1f} MB{unpacked}")


def tutorial_data(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Output folder.")],
    images: Annotated[int, typer.Option(help="Number of images.")] = 600,
    relations: Annotated[
        bool, typer.Option("--relations", help="Draw two shapes per image, and describe their positions.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
) -> None:
    """Draw a small data set of coloured shapes with captions, for trying out training."""
    from showtell.data.tutorial import write_tutorial_data

    write_tutorial_data(folder, images, seed, relations)
    hint = f"train on them with: showtell train -o RUN --images {shlex.quote(str(folder))}"
    print_line(f"{folder}: {plural(images, 'image')}; {hint}")
