"""Options that several commands share, and how a command ends."""

import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from showtell.cli.logs import logger
from showtell.errors import Interrupted

Models = Annotated[
    list[Path] | None,
    typer.Option(
        "--model", help="Bundle to caption with. Repeat it for an ensemble.", show_default="the shipped bundle"
    ),
]
Folders = Annotated[
    list[Path] | None,
    typer.Option("--images", help="Image folder. Use it twice if training and validation have separate folders."),
]
Images = Annotated[Path, typer.Option(help="Folder of the images that the captions refer to.", file_okay=False)]
CaptionFormat = Annotated[
    Literal["coco", "karpathy", "flickr", "csv", "tsv", "jsonl"] | None,
    typer.Option("--format", help="Format of the caption file.", show_default="detected"),
]
StartFrom = Annotated[
    Path | None,
    typer.Option(
        "--start-from",
        metavar="BUNDLE|RUN",
        help="Bundle or run to start training from; default for the shipped bundle.",
    ),
]
Font = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="TrueType or OpenType font for drawn captions.", show_default="a suitable system font"
    ),
]
SkipMissing = Annotated[bool, typer.Option("--skip-missing", help="Skip captions whose image is missing.")]

INTERRUPTED = 130  # the exit status that shells report for a program ended by Ctrl-C

# Resources that a command holds until it ends, such as the lock of its output.
exit_stack = ExitStack()


def fail(message: str, status: int = 2) -> NoReturn:
    """Log an error and exit. Its traceback is logged too if `--verbose` is on."""
    logger.error(message, exc_info=sys.exception() if logger.isEnabledFor(logging.DEBUG) else None)
    sys.exit(status)


@contextmanager
def resume_hint_on_interrupt() -> Iterator[None]:
    """Turn Ctrl-C into a one-line hint that re-running the command resumes the work."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; resume with: {shlex.join(['showtell', *sys.argv[1:]])}") from None
