"""The commands that measure a captioner: evaluate, calibrate."""

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from showtell.cli.options import CaptionFormat, Font, Images
from showtell.cli.streams import print_line
from showtell.utils.progress import progress_bar

logger = logging.getLogger(__name__)


def evaluate(
    bundle: Annotated[list[Path], typer.Argument(help="Bundle to evaluate. Pass several for an ensemble.")],
    captions: Annotated[Path, typer.Option(help="Caption file with the reference captions.")],
    images: Images,
    split: Annotated[str, typer.Option(help="Split to evaluate on: dev (or val), test, train, all.")] = "dev",
    format_: CaptionFormat = None,
    beam_size: Annotated[int | None, typer.Option(help="Beam width.", show_default="from the bundle")] = None,
    meteor: Annotated[bool, typer.Option("--meteor", help="Also compute METEOR; needs Java.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="New folder for the scores of each image and a sheet of example images.",
        ),
    ] = None,
    font: Font = None,
) -> None:
    """Score the captions of a bundle against reference captions: BLEU-1..4, ROUGE-L, CIDEr."""
    from showtell.data import read_split
    from showtell.drawing.fonts import Fonts
    from showtell.evaluation.evaluator import evaluate_captioner
    from showtell.evaluation.report import write_report
    from showtell.inference.captioner import Captioner
    from showtell.metrics.meteor import meteor_command
    from showtell.utils.files import require_empty_dir

    captioner = Captioner.load(*bundle)
    examples = read_split(captions, split, format_)
    # Fail before the images are captioned.
    fonts = Fonts(font)
    if output:
        require_empty_dir(output, "the report")
    if meteor:
        meteor_command()
    options = captioner.search_options
    if beam_size is not None:
        options = replace(options, beam_size=beam_size)
    with progress_bar("captioning") as advance:
        evaluation = evaluate_captioner(captioner, examples, images, options, meteor, advance)
    for name, value in evaluation.metrics.items():
        number = f"{value:.2f}" if isinstance(value, float) else str(value)
        cells = [f"{name:<24}{number:>8}"] if sys.stdout.isatty() else [name, number]
        print_line(*cells)
    for note in evaluation.notes:
        logger.warning(note)
    if output:
        bundles = [
            {"path": str(path), "fingerprint": loaded.fingerprint}
            for path, loaded in zip(bundle, captioner.bundles, strict=True)
        ]
        settings = {"bundles": bundles, "captions": str(captions), "images": str(images), "split": split}
        write_report(output, evaluation, images, settings, fonts)
        for note in fonts.notes:
            logger.warning("%s; choose another font with --font", note)
    if evaluation.unreadable:
        raise typer.Exit(1)


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="Bundle to calibrate.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="BUNDLE", help="Bundle to write: a new folder or .zip file.")
    ],
    captions: Annotated[Path, typer.Option(help="Caption file with reference captions and a training split.")],
    images: Images,
    split: Annotated[str, typer.Option(help="Split to calibrate on: dev (or val), test.")] = "dev",
    format_: CaptionFormat = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="New file for reliability charts.")] = None,
) -> None:
    """Add a calibrated confidence to a bundle, and measure its reliability by cross-validation."""
    from showtell.data import read_split
    from showtell.errors import BundleError, ConfigurationError
    from showtell.evaluation.calibration import calibrate as calibrate_captioner
    from showtell.evaluation.calibration import require_sklearn
    from showtell.evaluation.reliability import draw_reliability, require_matplotlib
    from showtell.inference.bundle import Bundle
    from showtell.inference.captioner import Captioner
    from showtell.utils.files import atomic_write

    # Fail before the images are captioned.
    if output.exists():
        raise BundleError(f"{output}: already exists; remove it, or choose another name")
    require_sklearn()
    if report:
        if report.exists():
            raise ConfigurationError(f"{report}: already exists; remove it, or choose another name")
        if report.suffix != ".svg":
            raise ConfigurationError(f"{report}: the report is an SVG image; use a name that ends in .svg")
        require_matplotlib()
    loaded = Bundle.load(bundle)
    # An existing calibration is not read: it may be in the format of an earlier version.
    loaded = replace(loaded, files={name: file for name, file in loaded.files.items() if name != "calibration.json"})
    all_examples = read_split(captions, "all", format_)
    training = [images / example.image for example in all_examples if example.split == "train"]
    examples = read_split(captions, split, format_)
    with progress_bar("captioning") as advance:
        calibration, reliability = calibrate_captioner(Captioner([loaded]), training, examples, images, advance)
    replace(loaded, files={**loaded.files, "calibration.json": calibration.to_json().encode()}).save(output)
    if report:
        with atomic_write(report) as temporary:
            temporary.write_text(draw_reliability(reliability), encoding="utf-8")
    for name, value in reliability.summary().items():
        print_line(name, value)
    if note := reliability.note:
        logger.warning(note)
