"""The commands that use a captioner: caption, info."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli.caption_options import (
    BeamSize,
    DecodingOptions,
    DecodingStrategy,
    Forbid,
    MaxWords,
    MinConfidence,
    MinWords,
    NBest,
    Recursive,
    check_confidence,
    read_paths,
)
from showtell.cli.options import INTERRUPTED, Font, Models, fail
from showtell.cli.streams import print_line
from showtell.errors import ConfigurationError
from showtell.utils.progress import progress_bar
from showtell.utils.signals import stop_signals
from showtell.utils.text import plural

if TYPE_CHECKING:
    from showtell.inference.bundle import Bundle
    from showtell.outputs import CaptionJob

logger = logging.getLogger(__name__)


def caption(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATHS", help="Images and folders of images. Use - to read paths from standard input."),
    ],
    model: Models = None,
    strategy: DecodingStrategy = "beam",
    beam_size: BeamSize = None,
    n_best: NBest = 1,
    min_words: MinWords = None,
    max_words: MaxWords = None,
    forbid: Forbid = None,
    min_confidence: MinConfidence = None,
    recursive: Recursive = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
    jsonl: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append captions to a JSON Lines file instead of printing them.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append captions to a CSV file instead of printing them.")
    ] = None,
    sidecar: Annotated[
        bool, typer.Option("--sidecar", help="Write captions to NAME.txt next to each image instead of printing them.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace the files of --jsonl, --csv and --sidecar that showtell wrote."),
    ] = False,
    spreadsheet_safe: Annotated[
        bool,
        typer.Option(
            "--spreadsheet-safe",
            help="Put an apostrophe in front of CSV cells that a spreadsheet may interpret as formulas.",
        ),
    ] = False,
    annotate: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write images with their captions, and a contact sheet, to a new folder."),
    ] = None,
    attention: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write attention maps, which show where the model looked, to a new folder."),
    ] = None,
    font: Font = None,
) -> None:
    """Caption images.

    With --jsonl, --csv or --sidecar, images that already have a caption in all of these outputs are skipped.
    Use `showtell ray caption` for URLs, .tar and .parquet files, and clusters.
    """
    from showtell.cli.caption_outputs import OutputOptions
    from showtell.inference.captioner import Captioner
    from showtell.outputs import CaptionJob

    captioner = Captioner.load(*model or ())
    decoding = DecodingOptions(strategy, beam_size, n_best, min_words, max_words, forbid or ())
    options = decoding.search_options(captioner)
    if min_confidence is not None:
        check_confidence(captioner, min_confidence, options)
    outputs = OutputOptions(
        as_json=as_json,
        jsonl=jsonl,
        csv=csv,
        spreadsheet_safe=spreadsheet_safe,
        sidecar=sidecar,
        overwrite=overwrite,
        annotate=annotate,
        attention=attention,
        font=font,
    )
    outputs.check(captioner.has_attention, n_best)
    path_list = list(read_paths(paths))
    images = _find_images(path_list, recursive)
    if not images:
        if as_json:
            print_line("[]")
        fail(f"no images in {', '.join(path_list)}" if path_list else "no paths on standard input")
    captioner.open_models()  # before an existing file is overwritten
    is_single_image = images == [*map(Path, paths)] and len(images) == 1
    opened = outputs.open(images, with_paths=not is_single_image)
    job = CaptionJob(captioner, images, opened, options, min_confidence)
    if job.skipped:
        total = plural(len(images), "image")
        hint = "" if overwrite else "; use --overwrite to replace the captions"
        logger.info("skipped %d of %s: already captioned%s", job.skipped, total, hint)
    # A progress bar is not needed if the captions are printed on the terminal.
    is_quiet = outputs.is_resumable or (sys.stderr.isatty() and not sys.stdout.isatty() and not is_single_image)
    _run(job, show_progress=is_quiet)
    for note in outputs.fonts.notes if outputs.draws else ():
        logger.warning("%s; choose another font with --font", note)
    if job.needs_review:
        done = plural(job.done, "caption")
        logger.info("review needed for %d of %s: confidence below %g", job.needs_review, done, min_confidence)
    _exit_unless_complete(job, outputs.resume_hint())


def _find_images(paths: Sequence[str], recursive: bool) -> list[Path]:
    """Return the images in files and folders. Camera RAW files in folders are skipped with a warning."""
    from showtell.images import RAW_SUFFIXES, SUFFIXES, find_images

    for path in paths:
        if "://" in path or (Path(path).suffix in (".tar", ".parquet") and os.path.isfile(path)):  # noqa: PTH113
            raise ConfigurationError(f"{path}: URLs, .tar and .parquet files need `showtell ray caption`")
    images = list(find_images(paths, recursive, SUFFIXES | RAW_SUFFIXES))
    raw = {path for path in images if path.suffix.lower() in RAW_SUFFIXES} - set(map(Path, paths))
    if raw:
        logger.warning("skipped %s; export RAW files as JPEG first", plural(len(raw), "camera RAW file"))
    return [path for path in images if path not in raw]


def _run(job: "CaptionJob", show_progress: bool) -> None:
    total = len(job.pending)
    progress: AbstractContextManager[Callable[..., None]]
    progress = progress_bar("captioning") if total and show_progress else nullcontext(lambda done, total: None)
    with stop_signals() as stop, progress as advance:
        advance(0, total)
        for record in job.run(stop, on_stop=_log_stop):
            if "error" in record:
                logger.warning("%s", record["error"])
            advance(job.finished, total)


def _log_stop() -> None:
    logger.info("stopping after the images in progress; press Ctrl-C again to stop immediately")


def _exit_unless_complete(job: "CaptionJob", resume_hint: str) -> None:
    """Exit with the status of a job that was interrupted or had errors."""
    if job.finished < len(job.pending):
        logger.info("stopped after %d of %s; %s", job.finished, plural(len(job.pending), "image"), resume_hint)
        raise typer.Exit(INTERRUPTED)
    if not job.done and not job.skipped:
        fail("no image could be captioned")
    if job.failed:
        logger.warning("%d of %s could not be captioned", job.failed, plural(job.finished, "image"))
        raise typer.Exit(1)


def info(
    bundle: Annotated[
        Path | None, typer.Argument(help="Bundle to describe.", show_default="the shipped bundle")
    ] = None,
) -> None:
    """Describe a bundle: encoder, decoder, vocabulary, license, scores, file sizes."""
    from showtell.inference.bundle import DEFAULT_BUNDLE, Bundle

    path = bundle or DEFAULT_BUNDLE
    loaded = Bundle.load(path)
    print_line("bundle", path)
    for name, value in _describe(loaded):
        print_line(name, value)


def _describe(bundle: "Bundle") -> Iterator[tuple[str, str]]:
    vocabulary, search = bundle.vocabulary, bundle.search_options
    yield "encoder", str(bundle.encoder)
    yield "decoder", ", ".join(f"{name} {value}" for name, value in bundle.decoder.items())
    yield "precision", bundle.precision
    yield "vocabulary", f"{vocabulary.fingerprint} ({len(vocabulary)} {vocabulary.unit}, tokenizer {vocabulary.kind})"
    ngrams = f", no repeated {search.no_repeat_ngram_size}-grams" if search.no_repeat_ngram_size else ""
    length = f"length penalty {search.length_penalty:g}, at most {search.max_length} {vocabulary.unit}"
    yield "search", f"beam width {search.beam_size}, {length}{ngrams}"
    yield "attention", f"yes, over {bundle.encoder.cells} grid cells" if bundle.has_attention else "no"
    yield "confidence", "no" if bundle.calibration is None else "yes"
    yield "license", bundle.data_license or "unknown"
    for data, scores in bundle.scores.items():
        yield f"scores, {data}", ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
    for name, content in bundle.files.items():
        yield name, f"{len(content):,} bytes"
