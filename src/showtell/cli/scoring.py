"""The commands that measure a captioner: evaluate, calibrate."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from showtell.cli.options import CaptionFormat, Font, Images, say
from showtell.utils.progress import progress_bar


def evaluate(
    bundle: Annotated[list[Path], typer.Argument(help="Bundle to score; several make an ensemble.")],
    captions: Annotated[Path, typer.Option(help="Caption file with the references.")],
    images: Images,
    split: Annotated[
        str, typer.Option(help="Part of the captions to score on: dev (or val), test, train, all.")
    ] = "dev",
    format_: CaptionFormat = None,
    beam_size: Annotated[int | None, typer.Option(help="Captions followed at a time. (as the bundle says)")] = None,
    meteor: Annotated[bool, typer.Option("--meteor", help="METEOR too; it needs Java.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="New folder for per-image scores and a picture."),
    ] = None,
    font: Font = None,
) -> None:
    """Score a bundle's captions against those of people: BLEU-1..4, ROUGE-L, CIDEr."""
    from showtell.drawing.fonts import Fonts
    from showtell.evaluation import evaluator as evaluation
    from showtell.inference.captioner import Captioner
    from showtell.metrics.meteor import meteor_command
    from showtell.utils.files import require_empty_dir

    captioner = Captioner.load(*bundle)
    examples = evaluation.read_split(captions, format_, split, say)
    # What cannot work is told before the images are captioned.
    fonts = Fonts(font)
    if output:
        require_empty_dir(output, "the report")
    if meteor:
        meteor_command()
    options = captioner.search_options
    if beam_size is not None:
        options = replace(options, beam_size=beam_size)
    with progress_bar("captioning") as advance:
        found = evaluation.evaluate_captioner(captioner, examples, images, options, meteor, say, advance)
    for name, value in found.figures.items():
        number = f"{value:.2f}" if isinstance(value, float) else str(value)
        print(f"{name:<24}{number:>8}" if sys.stdout.isatty() else f"{name}\t{number}")
    for note in found.notes:
        say(f"note: {note}")
    if output:
        bundles = [
            {"path": str(path), "fingerprint": each.fingerprint}
            for path, each in zip(bundle, captioner.bundles, strict=True)
        ]
        settings = {"bundles": bundles, "captions": str(captions), "images": str(images), "split": split}
        evaluation.write_report(output, found, images, settings, fonts)
        for note in fonts.notes:
            say(f"note: {note}; name another font with --font")
    if found.unreadable:
        raise typer.Exit(1)


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
    from showtell.errors import BundleError, ConfigurationError
    from showtell.evaluation import calibration
    from showtell.evaluation.evaluator import FEW_IMAGES, read_split
    from showtell.inference.bundle import Bundle
    from showtell.inference.captioner import Captioner
    from showtell.utils.files import atomic_write

    for path in (output, report):
        if path is not None and path.exists():
            raise BundleError(f"{path}: exists already; remove it first, or give another name")
    if report and report.suffix != ".svg":
        raise ConfigurationError(f"{report}: the picture is an SVG; its name must end in .svg")
    loaded = Bundle.load(bundle)
    # Without the calibration that it may have, which may be of an earlier showtell.
    loaded = replace(loaded, files={name: file for name, file in loaded.files.items() if name != "calibration.json"})
    known = [images / example.image for example in read_split(captions, format_, "all") if example.split == "train"]
    examples = read_split(captions, format_, split, say)
    with progress_bar("captioning") as advance:
        fitted, found = calibration.calibrate(Captioner([loaded]), known, examples, images, say, advance)
    replace(loaded, files={**loaded.files, "calibration.json": fitted.to_json().encode()}).save(output)
    if report:
        with atomic_write(report) as temporary:
            temporary.write_text(calibration.picture(found), encoding="utf-8")
    risks = found.risks()
    print(f"images\t{len(found.acceptable)}")
    if len(found.acceptable) < FEW_IMAGES:
        say(f"note: {len(found.acceptable)} images are few to calibrate on; trust neither figures nor confidence")
    print(f"captions acceptable (CIDEr {fitted.min_acceptable_cider:g} or more)\t{found.acceptable.mean():.1%}")
    print(f"AUROC\t{found.auroc:.3f}")
    print(f"expected calibration error\t{found.calibration_error:.3f}")
    for share in (0.2, 0.5, 0.8):
        print(f"acceptable of the {share:.0%} most confident\t{1 - risks[round(share * len(risks)) - 1]:.1%}")
    print(f"confidence of 0.5 or more\t{(found.confidences >= 0.5).mean():.1%}")
