"""Options that several commands have, and the way to tell the user something."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from showtell.errors import Interrupted

Models = Annotated[
    list[Path] | None,
    typer.Option("--model", help="Bundle to caption with; several make an ensemble. (the one shipped)"),
]
Folders = Annotated[
    list[Path] | None,
    typer.Option("--images", help="Folder of the images; give it twice if training and validation have one each."),
]
Images = Annotated[Path, typer.Option(help="Folder of the images that the captions name.", file_okay=False)]
CaptionFormat = Annotated[
    Literal["coco", "karpathy", "flickr", "csv", "tsv", "jsonl"] | None,
    typer.Option("--format", help="Format of the caption file. (recognised)"),
]
StartFrom = Annotated[
    Path | None, typer.Option("--start-from", metavar="BUNDLE|RUN", help="Captioner to go on from, on new data.")
]
Font = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="TrueType or OpenType font for pictures. (one found that has the letters)"),
]
SkipMissing = Annotated[bool, typer.Option("--skip-missing", help="Leave out captioned images that are not there.")]

INTERRUPTED = 130  # the exit status that shells give a program that Ctrl-C has ended

# What a command holds until it ends, such as the lock of its output.
exit_stack = ExitStack()


def fail(message: str, status: int = 2) -> NoReturn:
    """Say in one line why no more could be done, and leave with an exit status."""
    say(f"showtell: {printable(message)}")
    sys.exit(status)


@contextmanager
def resume_hint_on_interrupt() -> Iterator[None]:
    """Have Ctrl-C end in the line that the same command goes on, of work that keeps what is done."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; go on with: {shlex.join(['showtell', *sys.argv[1:]])}") from None


def say(line: str) -> None:
    """Tell the user something that is no result: on standard error."""
    print(line, file=sys.stderr, flush=True)


def reason(error: Exception) -> str:
    """Return what went wrong in one line."""
    if isinstance(error, OSError) and error.filename:
        # A file that could not be renamed was to get the second name.
        return printable(f"{error.filename2 or error.filename}: {error.strerror}")
    return printable(str(error))


def printable(text: str) -> str:
    """Return a text as one line: a path may hold line breaks, colours of a terminal, bytes that are no text."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
