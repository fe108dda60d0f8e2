"""The command line: parse, call, print.

Exit status 0: all done. 1: some inputs failed, the others are done. 2: nothing could be done.
Results go to standard output, everything else to standard error.
"""

import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from showtell import __version__
from showtell.errors import ConfigurationError, ShowtellError
from showtell.progress import bar
from showtell.recipe import DataConfig, EncoderConfig, Recipe

if TYPE_CHECKING:
    from showtell.train.start_from import Start

app = typer.Typer(
    name="showtell",
    help="Caption images offline, and train captioners on your own pictures.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Models = Annotated[
    list[Path] | None,
    typer.Option("--model", help="Bundle to caption with; several make an ensemble. [the one shipped]"),
]
Folders = Annotated[
    list[Path] | None,
    typer.Option("--images", help="Folder of the images; give it twice if training and validation have one each."),
]
Images = Annotated[Path, typer.Option(help="Folder of the images that the captions name.", file_okay=False)]
CaptionFormat = Annotated[
    Literal["coco", "karpathy", "flickr", "csv", "tsv", "jsonl"] | None,
    typer.Option("--format", help="Format of the caption file. [recognised]"),
]
StartFrom = Annotated[
    Path | None, typer.Option("--start-from", metavar="BUNDLE|RUN", help="Captioner to go on from, on new data.")
]
SkipMissing = Annotated[bool, typer.Option("--skip-missing", help="Leave out captioned images that are not there.")]


def main() -> NoReturn:
    """Run the command line; errors that a user can mend become one line."""
    try:
        app()
    except ShowtellError as error:
        _fail(str(error))
    except BrokenPipeError:  # the reader of our output has what it wants
        sys.stderr.close()
        sys.exit(2)
    except OSError as error:
        _fail(f"{error.filename or 'input or output'}: {error.strerror or error}")
    sys.exit(0)


def _fail(message: str) -> NoReturn:
    print(f"showtell: {message}", file=sys.stderr)
    sys.exit(2)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


@app.command()
def caption(
    paths: Annotated[list[Path], typer.Argument(help="Images, and folders to search for images.")],
    model: Models = None,
    beam_size: Annotated[int | None, typer.Option(help="Captions followed at a time. [as the bundle says]")] = None,
    n_best: Annotated[int, typer.Option(help="Captions to print for each image.")] = 1,
    decode: Annotated[Literal["beam", "greedy", "sample"], typer.Option(help="How to search.")] = "beam",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
    annotate: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the images with their captions as titles to DIR, a new folder."),
    ] = None,
    min_confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Mark captions with less confidence as needing review.")
    ] = None,
    attention: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write where each word of a caption looked to DIR, a new folder."),
    ] = None,
) -> None:
    """Caption images."""
    from showtell.captioner import Captioner
    from showtell.images import find

    captioner = Captioner.load(*model or ())
    changes: dict[str, Any] = {"decode": decode, "n_best": n_best}
    if beam_size is None:
        beam_size = max(captioner.search_options.beam_size, n_best)
    options = replace(captioner.search_options, beam_size=beam_size, **changes)
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        raise ConfigurationError(f"--min-confidence is {min_confidence}; it must be 0 to 1")
    if min_confidence is not None and captioner.calibration is None:
        raise ConfigurationError(
            "--min-confidence needs one bundle with a calibration; make one with: showtell calibrate"
        )
    if attention and not captioner.has_attention:
        raise ConfigurationError("--attention needs a model with attention; name one with --model")
    gallery = maps = None
    if annotate or attention:
        from showtell.gallery import AttentionGallery, Gallery

        gallery = Gallery(annotate) if annotate else None
        maps = AttentionGallery(attention) if attention else None
    alone = len(paths) == 1 and not paths[0].is_dir()
    done = failed = reviewed = 0
    for result in captioner.caption(find(paths), options):
        path = str(result.source)
        if result.error is not None:
            failed += 1
            _say(f"showtell: {result.error}")
            entry: dict[str, Any] = {"path": path, "error": str(result.error)}
        else:
            done += 1
            best = result.captions[0]
            doubtful = min_confidence is not None and (best.confidence or 0) < min_confidence
            reviewed += doubtful
            entry = {"path": path, "caption": best.text}
            if best.confidence is not None:
                entry["confidence"] = round(best.confidence, 3)
            if min_confidence is not None:
                entry["needs_review"] = doubtful
            if n_best > 1:
                entry["captions"] = [
                    {"caption": found.text, "log_prob": round(found.log_prob, 4), "score": round(found.score, 4)}
                    for found in result.captions
                ]
            if not as_json:
                mark = "\tneeds review" if doubtful else ""
                place = "" if alone else f"{_printable(path)}\t"
                for found in result.captions:
                    print(f"{place}{found.text}{mark}", flush=True)
            if gallery:
                gallery.add(Path(path), f"{best.text} (needs review)" if doubtful else best.text)
            if maps:
                maps.add(Path(path), best)
        if as_json:
            print("[" if done + failed == 1 else ",", json.dumps(entry), flush=True)
    if as_json:
        print("]" if done + failed else "[]")
    if gallery:
        gallery.finish()
    if reviewed:
        _say(f"showtell: {reviewed} of {done} captions need review: their confidence is below {min_confidence:g}")
    if not done:
        _fail("no image could be captioned" if failed else f"no images in {', '.join(map(str, paths))}")
    if failed:
        _say(f"showtell: {failed} of {done + failed} images could not be captioned")
        raise typer.Exit(1)


@app.command()
def evaluate(
    bundle: Annotated[list[Path], typer.Argument(help="Bundle to score; several make an ensemble.")],
    captions: Annotated[Path, typer.Option(help="Caption file with the references.")],
    images: Images,
    split: Annotated[
        str, typer.Option(help="Part of the captions to score on: dev (or val), test, train, all.")
    ] = "dev",
    format_: CaptionFormat = None,
    beam_size: Annotated[int | None, typer.Option(help="Captions followed at a time. [as the bundle says]")] = None,
    meteor: Annotated[bool, typer.Option("--meteor", help="METEOR too; it needs Java.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="New folder for per-image scores and a picture."),
    ] = None,
) -> None:
    """Score a bundle's captions against those of people: BLEU-1..4, ROUGE-L, CIDEr."""
    from showtell import evaluation
    from showtell.captioner import Captioner
    from showtell.files import require_new
    from showtell.metrics_meteor import meteor_command

    captioner = Captioner.load(*bundle)
    examples = evaluation.read_split(captions, format_, split, _say)
    # What cannot work is told before the images are captioned.
    if output:
        require_new(output, "the report")
    if meteor:
        meteor_command()
    options = captioner.search_options
    if beam_size is not None:
        options = replace(options, beam_size=beam_size)
    with bar("captioning") as advance:
        found = evaluation.evaluate(captioner, examples, images, options, meteor, _say, advance)
    for name, value in found.figures.items():
        number = f"{value:.2f}" if isinstance(value, float) else str(value)
        print(f"{name:<24}{number:>8}" if sys.stdout.isatty() else f"{name}\t{number}")
    for note in found.notes:
        _say(f"note: {note}")
    if output:
        bundles = [
            {"path": str(path), "fingerprint": each.fingerprint}
            for path, each in zip(bundle, captioner.bundles, strict=True)
        ]
        settings = {"bundles": bundles, "captions": str(captions), "images": str(images), "split": split}
        evaluation.write_report(output, found, images, settings)
    if found.unreadable:
        raise typer.Exit(1)


@app.command()
def calibrate(
    bundle: Annotated[Path, typer.Argument(help="Bundle to calibrate.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="BUNDLE", help="Folder, or file ending in .zip.")],
    captions: Annotated[Path, typer.Option(help="Caption file with references and a training part.")],
    images: Images,
    split: Annotated[str, typer.Option(help="Part of the captions to calibrate on, as of evaluate.")] = "dev",
    format_: CaptionFormat = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="New file for a picture of it.")] = None,
) -> None:
    """Give a bundle a calibrated confidence, and tell by cross-validation what it is worth."""
    from showtell import calibration
    from showtell.bundle import Bundle
    from showtell.captioner import Captioner
    from showtell.errors import BundleError
    from showtell.evaluation import FEW_IMAGES, read_split
    from showtell.files import written_whole

    for path in (output, report):
        if path is not None and path.exists():
            raise BundleError(f"{path}: exists already; remove it first, or give another name")
    loaded = Bundle.load(bundle)
    # Without the calibration that it may have, which may be of an earlier showtell.
    loaded = replace(loaded, files={name: file for name, file in loaded.files.items() if name != "calibration.json"})
    known = [images / example.image for example in read_split(captions, format_, "train")]
    examples = read_split(captions, format_, split, _say)
    with bar("captioning") as advance:
        fitted, found = calibration.calibrate(Captioner([loaded]), known, examples, images, _say, advance)
    replace(loaded, files={**loaded.files, "calibration.json": fitted.to_json().encode()}).save(output)
    if report:
        with written_whole(report) as temporary:
            temporary.write_text(calibration.picture(found), encoding="utf-8")
    risks = found.risks()
    print(f"images\t{len(found.acceptable)}")
    if len(found.acceptable) < FEW_IMAGES:
        _say(f"note: {len(found.acceptable)} images are few to calibrate on; trust neither figures nor confidence")
    print(f"captions acceptable (CIDEr {fitted.acceptable:g} or more)\t{found.acceptable.mean():.1%}")
    print(f"AUROC\t{found.auroc:.3f}")
    print(f"expected calibration error\t{found.calibration_error:.3f}")
    for share in (0.2, 0.5, 0.8):
        print(f"acceptable of the {share:.0%} most confident\t{1 - risks[round(share * len(risks)) - 1]:.1%}")
    print(f"confidence of 0.5 or more\t{(found.confidences >= 0.5).mean():.1%}")


@app.command()
def info(bundle: Annotated[Path | None, typer.Argument(help="Bundle. [the one shipped]")] = None) -> None:
    """Tell what a bundle is: encoder, decoder, vocabulary, scores, sizes."""
    from showtell.bundle import Bundle
    from showtell.captioner import DEFAULT_BUNDLE

    path = bundle or DEFAULT_BUNDLE
    loaded = Bundle.load(path)
    print(f"bundle\t{path}")
    print(f"encoder\t{loaded.encoder}")
    print(f"decoder\t{', '.join(f'{name} {value}' for name, value in loaded.decoder.items())}")
    print(f"precision\t{loaded.precision}")
    print(f"vocabulary\t{loaded.vocabulary.fingerprint} ({len(loaded.vocabulary)} words)")
    search = loaded.search
    rules = f"beam size {search.beam_size}, length penalty {search.length_penalty:g}"
    repeats = f", no {search.no_repeat_ngram} words in a row twice" if search.no_repeat_ngram else ""
    print(f"search\t{rules}, {search.max_length} words at most{repeats}")
    print(f"attention\t{'yes' if loaded.decoder.get('kind') == 'show_attend_tell' else 'no'}")
    print(f"confidence\t{'no' if loaded.calibration is None else 'yes'}")
    for data, scores in loaded.scores.items():
        print(f"scores, {data}\t{', '.join(f'{name} {value:.2f}' for name, value in scores.items())}")
    for name, content in loaded.files.items():
        print(f"{name}\t{len(content):,} bytes")


@app.command()
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
    vocabulary_size: Annotated[int, typer.Option(help="Most frequent words to keep.")] = DataConfig.vocabulary_size,
    min_count: Annotated[int, typer.Option(help="Times a word must occur to be kept.")] = DataConfig.min_count,
    max_length: Annotated[int, typer.Option(help="Tokens a caption is padded to.")] = DataConfig.max_length,
    start_from: StartFrom = None,
) -> None:
    """Index captions: words to numbers, padded rows, the image of each; all in one .h5 file."""
    from showtell import dataset

    old = _load_start(start_from).vocabulary if start_from else None
    config = DataConfig(vocabulary_size, min_count, max_length)
    dataset.require_free(output)
    examples = dataset.read_all(captions, {"train": train, "val": val}, {"train": train_list, "val": val_list}, format_)
    if images:
        examples = dataset.with_images(examples, images, skip_missing, _say)
    data = dataset.build(examples, config, old)
    dataset.write(output, data, source=str(captions or train))
    print(dataset.summary(data))


@app.command()
def extract(
    images: Annotated[Path, typer.Argument(help="Folder of images.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, NAME.npy.")],
    encoder: Annotated[str, typer.Option(help="Name in the table of encoders.")] = EncoderConfig.encoder,
    encoder_weights: Annotated[str, typer.Option(help="imagenet, none, or a weights file.")] = "imagenet",
    grid: Annotated[bool, typer.Option("--grid", help="Keep the grid of cells instead of their mean.")] = False,
    dtype: Annotated[Literal["float16", "float32"], typer.Option(help="Precision of the numbers kept.")] = "float16",
    captions: Annotated[
        Path | None, typer.Option(help="captions.h5: extract the images of one split of it, in its order of rows.")
    ] = None,
    split: Annotated[Literal["train", "val"], typer.Option(help="That split.")] = "train",
    start_from: StartFrom = None,
) -> None:
    """Turn images into features, once; an interrupted extraction goes on where it stopped."""
    from showtell.features import extract as extract_features
    from showtell.images import named
    from showtell.train.encoders import load_encoder

    if captions is None:
        chosen = named(images)
    else:
        from showtell.dataset import image_names

        chosen = [(name, images / name) for name in image_names(captions, split)]
    if start_from:
        loaded = _load_start(start_from).load_encoder(encoder_weights)
    else:
        loaded = load_encoder(EncoderConfig(encoder, encoder_weights, grid))
    with bar("extracting") as advance:
        features = extract_features(chosen, loaded, output, dtype, advance)
    for _, reason in features.failed:
        _say(f"showtell: {reason}")
    print(f"{output}: {len(features.array)} images, {features.array.shape[1]} x {features.array.shape[2]} numbers each")
    if features.failed:
        raise typer.Exit(1)


def _load_start(path: Path) -> "Start":
    from showtell.train import require_keras

    require_keras("--start-from")
    from showtell.train.start_from import load_start

    return load_start(path)


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each setting of a recipe, collected in its last parameter."""
    signature = inspect.signature(command)
    parameters = list(signature.parameters.values())[:-1]
    sections: list[Any] = [section.default for section in fields(Recipe)]
    for section in sections:
        for setting in fields(section):
            kind: Any = setting.type
            option = typer.Option(
                help=f"{setting.metadata['help']} [{setting.default}]", rich_help_panel=f"Recipe: {section.__doc__}"
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


@app.command()
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
    settings: Any = None,
) -> None:
    """Train a captioner, from captions.h5 and features, or from images and captions in one go."""
    if resume and (recipe or captions or features or images or format_ or skip_missing or start_from or settings):
        raise ConfigurationError("--resume goes on with the settings that the run began with; give no others")
    chosen = (Recipe.load(recipe) if recipe else Recipe()).override(settings)
    from showtell.train import require_keras

    require_keras("training")
    from showtell import dataset
    from showtell.train import pipeline
    from showtell.train.run import Run, Sources
    from showtell.train.trainer import train as train_run

    start = _load_start(start_from) if start_from else None
    if resume:
        run = Run.open(output)
        training, validation = pipeline.load(run)
    elif captions and captions.suffix in (".h5", ".hdf5") and not features:
        raise ConfigurationError(f"{captions} needs --features; make them with: showtell extract")
    elif features and captions:
        sources = Sources.at(captions, features, images or (), skip_missing)
        run, training, validation = pipeline.begin(output, chosen, sources, start)
    elif images and len(images) == 1 and not features:
        Run.require_free(output)
        examples = dataset.read_all(captions or images[0], {}, {}, format_)
        with bar("extracting") as advance:
            sources = pipeline.prepare_run(output, chosen, examples, images[0], skip_missing, _say, advance, start)
        run, training, validation = pipeline.begin(output, chosen, sources, start)
    else:
        raise ConfigurationError("give --captions captions.h5 and --features, or --images and --captions")
    with bar("training", "steps") as advance:
        train_run(run, training, validation, _say, advance)
    _say(f"done; make a bundle of the best checkpoint with: showtell export {output} -o BUNDLE")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="BUNDLE", help="Folder, or file ending in .zip.")],
    int8: Annotated[bool, typer.Option("--int8", help="Quantise to 8 bits.")] = False,
    images: Folders = None,
    encoder_weights: Annotated[str | None, typer.Option(help="Weights of the encoder. [as in training]")] = None,
    card: Annotated[
        Path | None, typer.Option(help="Text to begin the model card with; scores and settings follow.")
    ] = None,
    phase: Annotated[
        Literal["cross-entropy", "fine-tuning", "self-critical"] | None,
        typer.Option(help="Export what this phase has left. [the last]"),
    ] = None,
) -> None:
    """Make a bundle of the best checkpoint of a run, and check it against Keras."""
    from showtell.train import require_keras

    require_keras("export")
    from showtell.train.pipeline import export_run

    bundle = export_run(run, output, int8, images or (), encoder_weights, card, phase, _say)
    print(f"{output}: {sum(map(len, bundle.files.values())) / 1e6:.1f} MB")


@app.command("tutorial-data")
def tutorial_data(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write.")],
    images: Annotated[int, typer.Option(help="Pictures to draw.")] = 600,
    relations: Annotated[bool, typer.Option("--relations", help="Two shapes a picture, and where they lie.")] = False,
    seed: Annotated[int, typer.Option(help="Seed; the same draws the same.")] = 0,
) -> None:
    """Draw a small data set of coloured shapes with captions, to learn and try training with."""
    from showtell.tutorial_data import write

    write(folder, images, seed, relations)
    print(f"{folder}: {images} pictures; train on them with: showtell train -o RUN --images {folder}")


def _printable(path: str) -> str:
    # A name may hold line breaks, or bytes that are no text.
    return path.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n").replace("\t", "\\t")
