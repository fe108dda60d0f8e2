"""The commands that make a captioner: prepare, extract, train, export, tutorial-data."""

import inspect
import shlex
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from showtell.cli.options import (
    CaptionFormat,
    Folders,
    SkipMissing,
    StartFrom,
    exit_stack,
    resume_hint_on_interrupt,
    say,
)
from showtell.cli.scaling import (
    Actors,
    Address,
    BatchSize,
    Cpus,
    Engine,
    Gpus,
    RayOptions,
    ShardSize,
    list_inputs,
    places_and_root,
    reject_options,
    run_job,
)
from showtell.errors import ConfigurationError
from showtell.recipe import DataConfig, EncoderConfig, Recipe
from showtell.utils.files import parse_path_list
from showtell.utils.locks import exclusive_lock
from showtell.utils.progress import progress_bar

if TYPE_CHECKING:
    from showtell.encoder import Encoder
    from showtell.training.warm_start import WarmStart


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

    start = _load_start(start_from) if start_from else None
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
    images: Annotated[str, typer.Argument(help="Folder of images.")],
    output: Annotated[str, typer.Option("--output", "-o", help="File to write, NAME.npy; with --engine ray a folder.")],
    encoder: Annotated[str, typer.Option(help="Name in the table of encoders.")] = EncoderConfig.encoder,
    encoder_weights: Annotated[str, typer.Option(help="imagenet, none, or a weights file.")] = "imagenet",
    grid: Annotated[bool, typer.Option("--grid", help="Keep the grid of cells instead of their mean.")] = False,
    dtype: Annotated[Literal["float16", "float32"], typer.Option(help="Precision of the numbers kept.")] = "float16",
    captions: Annotated[
        Path | None, typer.Option(help="captions.h5: extract the images of one split of it, in its order of rows.")
    ] = None,
    split: Annotated[Literal["train", "val"], typer.Option(help="That split.")] = "train",
    start_from: StartFrom = None,
    engine: Engine = "local",
    address: Address = None,
    actors: Actors = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    batch_size: BatchSize = None,
    shard_size: ShardSize = None,
) -> None:
    """Turn images into features, once; an interrupted extraction goes on where it stopped.

    With --engine ray, images may be a .tar or .parquet file, a folder of those, an address such as s3://bucket/folder,
    or -, which reads paths from standard input.
    """
    from showtell.data.extraction import BATCH_SIZE, extract_features
    from showtell.images import list_images
    from showtell.training.encoders import load_encoder

    load = partial(load_encoder, EncoderConfig(encoder, encoder_weights, grid))
    if start_from:
        load = partial(_load_start_encoder, start_from, encoder_weights)
    on_ray = RayOptions(address, actors, cpus, batch_size, shard_size, gpus)
    if engine == "ray":
        places, root = places_and_root(
            images, captions, split, parse_path_list(sys.stdin.buffer.read()) if images == "-" else ()
        )
        shards = list_inputs(on_ray, places, root=root)
        from showtell.ray.work import Extracting

        run_job(Extracting(load, load().info, dtype, batch_size or BATCH_SIZE), shards, output, on_ray)
        return
    reject_options(engine, **vars(on_ray))
    if captions is None:
        chosen = list_images(Path(images))
    else:
        from showtell.data import read_image_names

        chosen = [(name, Path(images, name)) for name in read_image_names(captions, split)]
    loaded = load()
    with resume_hint_on_interrupt(), progress_bar("extracting") as advance:
        features = extract_features(chosen, loaded, output, dtype, advance)
    for _, reason in features.failed:
        say(f"showtell: {reason}")
    print(f"{output}: {len(features.array)} images, {features.array.shape[1]} x {features.array.shape[2]} numbers each")
    if features.failed:
        raise typer.Exit(1)


def _load_start_encoder(path: Path, encoder_weights: str) -> "Encoder":
    return _load_start(path).load_encoder(encoder_weights)


def _load_start(path: Path) -> "WarmStart":
    from showtell.training import require_keras

    require_keras("--start-from")
    from showtell.training.warm_start import load_warm_start

    return load_warm_start(path)


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
    start = _load_start(start_from) if start_from else None
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
    from showtell.data.tutorial import write

    write(folder, images, seed, relations)
    print(f"{folder}: {images} pictures; train on them with: showtell train -o RUN --images {shlex.quote(str(folder))}")
