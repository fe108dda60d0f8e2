"""The commands that use a captioner: caption, info."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from showtell.cli.options import Models, fail, say
from showtell.errors import ConfigurationError


def caption(
    paths: Annotated[list[Path], typer.Argument(help="Images, and folders to search for images.")],
    model: Models = None,
    beam_size: Annotated[int | None, typer.Option(help="Captions followed at a time. [as the bundle says]")] = None,
    n_best: Annotated[int, typer.Option(help="Captions to print for each image.")] = 1,
    decode: Annotated[Literal["beam", "greedy", "sample"], typer.Option(help="How to search.")] = "beam",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
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
) -> None:
    """Caption images."""
    from showtell.captioner import Captioner
    from showtell.images import find

    captioner = Captioner.load(*model or ())
    own = captioner.search_options
    changes: dict[str, Any] = {"decode": decode, "n_best": n_best}
    if beam_size is None:
        beam_size = max(own.beam_size, n_best)
    options = replace(own, beam_size=beam_size, **changes)
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        raise ConfigurationError(f"--min-confidence is {min_confidence}; it must be 0 to 1")
    if min_confidence is not None and captioner.calibration is None:
        raise ConfigurationError(
            "--min-confidence needs one bundle with a calibration; make one with: showtell calibrate"
        )
    if min_confidence is not None and replace(options, n_best=own.n_best) != own:
        say("note: the confidence is calibrated for the bundle's own way of searching, and means less for this one")
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
            say(f"showtell: {result.error}")
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
        say(f"showtell: {reviewed} of {done} captions need review: their confidence is below {min_confidence:g}")
    if not done:
        fail("no image could be captioned" if failed else f"no images in {', '.join(map(str, paths))}")
    if failed:
        say(f"showtell: {failed} of {done + failed} images could not be captioned")
        raise typer.Exit(1)


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


def _printable(path: str) -> str:
    # A name may hold line breaks, or bytes that are no text.
    return path.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n").replace("\t", "\\t")
