"""The commands that use a captioner: caption, info."""

import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from showtell.cli.options import INTERRUPTED, Font, Models, exit_stack, fail, printable, reason, say
from showtell.cli.scaling import (
    Actors,
    Address,
    BatchSize,
    Cpus,
    Engine,
    RayOptions,
    Results,
    ShardSize,
    TableFormat,
    list_inputs,
    reject_options,
    run_job,
)
from showtell.errors import ConfigurationError, ShowtellError
from showtell.utils.files import parse_path_list
from showtell.utils.locks import exclusive_lock
from showtell.utils.progress import progress_bar
from showtell.utils.signals import stop_signals, take_until_set

if TYPE_CHECKING:
    from showtell.inference.captioner import Caption, Captioner
    from showtell.inference.search import SearchOptions
    from showtell.outputs.files import Output

STOPPING = "showtell: stopping after the images at work; Ctrl-C again stops at once"


def caption(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATHS...", help="Images, and folders to search for images; - reads paths from standard input."
        ),
    ],
    model: Models = None,
    beam_size: Annotated[int | None, typer.Option(help="Captions followed at a time. (as the bundle says)")] = None,
    n_best: Annotated[int, typer.Option(help="Captions to print for each image.")] = 1,
    strategy: Annotated[Literal["beam", "greedy", "sample"], typer.Option(help="How to search.")] = "beam",
    min_words: Annotated[
        int | None,
        typer.Option(help="Words (tokens, of bpe and char) of a caption at least. (as the bundle says)"),
    ] = None,
    max_words: Annotated[
        int | None,
        typer.Option(help="Words (tokens, of bpe and char) of a caption at most. (as the bundle says)"),
    ] = None,
    forbid: Annotated[
        list[str] | None, typer.Option(metavar="WORD", help="Word that no caption may have; may be given again.")
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive/--no-recursive", help="Search the folders in a folder, too.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
    jsonl: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append to FILE, a JSON object on each line, instead of printing."),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append to FILE, a table in CSV, instead of printing.")
    ] = None,
    sidecar: Annotated[
        bool, typer.Option("--sidecar", help="Write each caption beside its image, as NAME.txt, instead of printing.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin the files of --jsonl and --csv anew, and overwrite NAME.txt.")
    ] = False,
    annotate: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write images with captions to DIR, a new folder; 32 on one sheet, too."),
    ] = None,
    min_confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Mark captions with less confidence as needing review.")
    ] = None,
    attention: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write where each word of a caption looked to DIR, a new folder."),
    ] = None,
    font: Font = None,
    engine: Engine = "local",
    address: Address = None,
    actors: Actors = None,
    cpus: Cpus = None,
    batch_size: BatchSize = None,
    shard_size: ShardSize = None,
    output: Results = None,
    table_format: TableFormat = None,
) -> None:
    """Caption images. With --jsonl, --csv or --sidecar, those that have a caption there already are left out.

    With --engine ray, images may be in .tar and .parquet files and at addresses such as s3://bucket/folder, too.
    """
    from showtell.images import RAW_SUFFIXES, SUFFIXES, find_images
    from showtell.inference.captioner import BATCH_SIZE, Captioner
    from showtell.outputs.files import JsonLines, Sidecars, Table, entry_of

    captioner = Captioner.load(*model or ())
    options = _search_options(captioner, strategy, n_best, beam_size, (min_words, max_words), forbid or ())
    if min_confidence is not None:
        check_confidence(captioner, min_confidence, options)
    on_ray = RayOptions(address, actors, cpus, batch_size, shard_size)
    if engine == "ray":
        reject_options(
            engine,
            json=as_json,
            jsonl=jsonl,
            csv=csv,
            sidecar=sidecar,
            overwrite=overwrite,
            annotate=annotate,
            attention=attention,
        )
        shards = list_inputs(on_ray, _named(paths), recursive)
        from showtell.ray.work import Captioning

        size = batch_size or BATCH_SIZE
        run_job(
            Captioning(captioner.bundles, options, min_confidence, table_format or "parquet", size),
            shards,
            output,
            on_ray,
        )
        return
    reject_options(engine, output=output, format=table_format, **vars(on_ray))
    if attention and not captioner.has_attention:
        raise ConfigurationError("--attention needs a model with attention; name one with --model")
    if font and not (annotate or attention):
        raise ConfigurationError("--font is for the pictures of --annotate and --attention; give one of them, too")
    if jsonl and csv and jsonl.resolve() == csv.resolve():
        raise ConfigurationError(f"--jsonl and --csv both name {csv}; give them a file each")
    if n_best > 1 and (csv or sidecar) and not jsonl:
        raise ConfigurationError("--n-best: --csv and --sidecar hold one caption of an image; give --jsonl, too")
    given = list(_named(paths))
    _require_local(given)
    images = list(find_images(given, recursive, SUFFIXES | RAW_SUFFIXES))
    if raw := {path for path in images if path.suffix.lower() in RAW_SUFFIXES} - set(map(Path, given)):
        say(f"note: {len(raw)} camera RAW files are left out; export them as JPEG first")
        images = [path for path in images if path not in raw]
    if not images:
        if as_json:
            print("[]")
        fail(f"no images in {', '.join(given)}" if given else "no paths on standard input")
    captioner.open_models()  # one that cannot be used costs no file
    gallery = maps = fonts = None
    if annotate or attention:
        from showtell.drawing.fonts import Fonts
        from showtell.outputs.galleries import AttentionGallery, Gallery

        fonts = Fonts(font)
        gallery = Gallery(annotate, fonts) if annotate else None
        maps = AttentionGallery(attention, fonts) if attention else None
    sidecars = Sidecars(map(str, images), overwrite) if sidecar else None
    for place in filter(None, (jsonl, csv)):
        exit_stack.enter_context(exclusive_lock(place))
    files = [kind(file, overwrite) for kind, file in ((JsonLines, jsonl), (Table, csv)) if file]
    outputs: list[Output] = [sidecars, *files] if sidecars else [*files]
    for file in files:
        if file.incomplete_line:
            say(
                f"note: {file.path}: half a line of a run that was killed is taken away: {file.incomplete_line[:200]!r}"
            )
    wanted = [path for path in images if not outputs or not all(output.has(str(path)) for output in outputs)]
    if there := len(images) - len(wanted):
        say(f"showtell: {there} of {len(images)} images have a caption already; --overwrite makes them anew")
    alone = len(images) == 1 and images == [*map(Path, paths)]
    # On a terminal, captions that are printed are progress enough.
    unseen = sys.stderr.isatty() and not sys.stdout.isatty() and not alone
    shown = progress_bar("captioning") if wanted and (outputs or unseen) else nullcontext(_not_shown)
    done = failed = reviewed = 0
    with stop_signals() as stopping, shown as advance:
        advance(0, len(wanted))
        for result in captioner.caption(take_until_set(stopping, wanted, lambda: say(STOPPING)), options):
            entry = entry_of(result, min_confidence, several=n_best > 1)
            doubtful = entry.get("needs_review", False)
            try:
                if sidecars:
                    sidecars.add(entry)
                if gallery and result.captions:
                    gallery.add(
                        Path(entry["path"]), f"{entry['caption']} (needs review)" if doubtful else entry["caption"]
                    )
                if maps and result.captions:
                    maps.add(Path(entry["path"]), result.captions[0])
            except (ShowtellError, OSError) as error:
                entry, doubtful = {"path": entry["path"], "error": reason(error)}, False
            for file in files:
                file.add(entry)
            if as_json:
                print("," if done + failed else "[", json.dumps(entry), flush=True)
            if "error" in entry:
                failed += 1
                say(f"showtell: {entry['error']}")
            else:
                done += 1
                reviewed += doubtful
                if not as_json and (doubtful or not outputs):
                    _print("" if alone else printable(entry["path"]) + "\t", result.captions, doubtful)
            advance(done + failed, len(wanted))
    if as_json:
        print("]" if done + failed else "[]")
    if gallery:
        gallery.finish()
    for note in fonts.notes if fonts else ():
        say(f"note: {note}; name another font with --font")
    if reviewed:
        say(f"showtell: {reviewed} of {done} captions need review: their confidence is below {min_confidence:g}")
    if done + failed < len(wanted):
        advice = _advice(outputs, overwrite and sidecar, bool(gallery or maps))
        say(f"showtell: stopped after {done + failed} of {len(wanted)} images; {advice}")
        raise typer.Exit(INTERRUPTED)
    if not done and not there:
        fail("no image could be captioned")
    if failed:
        say(f"showtell: {failed} of {done + failed} images could not be captioned")
        raise typer.Exit(1)


def _search_options(
    captioner: "Captioner",
    strategy: Literal["beam", "greedy", "sample"],
    n_best: int,
    beam_size: int | None,
    words: tuple[int | None, int | None],
    forbidden: Sequence[str],
) -> "SearchOptions":
    own = captioner.search_options
    least, most = words
    if least is not None and most is not None and least > most:
        raise ConfigurationError(f"--min-words {least} is more than --max-words {most}")
    return replace(
        own,
        strategy=strategy,
        n_best=n_best,
        beam_size=max(own.beam_size, n_best) if beam_size is None else beam_size,
        min_length=own.min_length if least is None else least,
        max_length=own.max_length if most is None else most,
        suppress_tokens=(*own.suppress_tokens, *map(captioner.vocabulary.id_of, forbidden)),
    )


def check_confidence(captioner: "Captioner", least: float, options: "SearchOptions") -> None:
    """Refuse a least confidence that no caption can be held against, and note where it means less."""
    if not 0 <= least <= 1:
        raise ConfigurationError(f"--min-confidence is {least}; it must be 0 to 1")
    if captioner.calibration is None:
        raise ConfigurationError(
            "--min-confidence needs one bundle with a calibration; make one with: showtell calibrate"
        )
    own = captioner.search_options
    if replace(options, n_best=own.n_best) != own:
        say("note: the confidence is calibrated for the bundle's own way of searching, and means less for this one")


def _named(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        yield from parse_path_list(sys.stdin.buffer.read()) if path == "-" else [path]


def _require_local(paths: Iterable[str]) -> None:
    """Refuse what only the engine ray reads, before an image is captioned."""
    for path in paths:
        if "://" in path or (Path(path).suffix in (".tar", ".parquet") and os.path.isfile(path)):  # noqa: PTH113
            raise ConfigurationError(f"{path}: addresses, .tar and .parquet files are read with --engine ray")


def _not_shown(done: int, total: int) -> None:
    pass


def _print(place: str, captions: Iterable["Caption"], doubtful: bool) -> None:
    mark = "\tneeds review" if doubtful else ""
    for found in captions:
        print(f"{place}{found.text}{mark}", flush=True)


def _advice(outputs: Sequence["Output"], anew: bool, pictures: bool) -> str:
    """Tell how to go on after an interrupt."""
    if not outputs:
        return "with --jsonl FILE, a second run would go on there"
    if anew:
        return "the same command begins anew, for all texts beside the images are to be overwritten"
    command = shlex.join(["showtell", *(word for word in sys.argv[1:] if word != "--overwrite")])
    return f"{'name a new folder for the pictures, and ' if pictures else ''}go on with: {command}"


def info(bundle: Annotated[Path | None, typer.Argument(help="Bundle. (the one shipped)")] = None) -> None:
    """Tell what a bundle is: encoder, decoder, vocabulary, scores, sizes."""
    from showtell.inference.bundle import Bundle
    from showtell.inference.bundle import DEFAULT_BUNDLE

    path = bundle or DEFAULT_BUNDLE
    loaded = Bundle.load(path)
    print(f"bundle\t{path}")
    print(f"encoder\t{loaded.encoder}")
    print(f"decoder\t{', '.join(f'{name} {value}' for name, value in loaded.decoder.items())}")
    print(f"precision\t{loaded.precision}")
    vocabulary = loaded.vocabulary
    print(f"vocabulary\t{vocabulary.fingerprint} ({len(vocabulary)} {vocabulary.noun}, tokenizer {vocabulary.kind})")
    search = loaded.search_options
    rules = f"beam size {search.beam_size}, length penalty {search.length_penalty:g}"
    repeats = (
        f", no {search.no_repeat_ngram_size} {vocabulary.noun} in a row twice" if search.no_repeat_ngram_size else ""
    )
    print(f"search\t{rules}, {search.max_length} {vocabulary.noun} at most{repeats}")
    print(f"attention\t{'yes' if loaded.decoder.get('kind') == 'show_attend_tell' else 'no'}")
    print(f"confidence\t{'no' if loaded.calibration is None else 'yes'}")
    for data, scores in loaded.scores.items():
        print(f"scores, {data}\t{', '.join(f'{name} {value:.2f}' for name, value in scores.items())}")
    for name, content in loaded.files.items():
        print(f"{name}\t{len(content):,} bytes")
