"""The command line: parse, call, print.

Exit status 0: all done. 1: some inputs failed, the others are done. 2: nothing could be done.
130: stopped by Ctrl-C.
Results go to standard output, everything else to standard error.
"""

import os
import sys
import warnings
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer

from showtell import __version__
from showtell.cli import alt_text, captioning, scoring, serving, training
from showtell.cli.options import INTERRUPTED, exit_stack, fail, reason
from showtell.errors import Interrupted, ShowtellError

app = typer.Typer(
    name="showtell",
    help="Caption images offline, and train captioners on your own pictures.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> NoReturn:
    """Run the command line; errors that a user can mend become one line."""
    _configure_pillow()
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal need not have every letter of a name or a caption
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with exit_stack:
            try:
                app()
            finally:
                sys.stdout.flush()
    except Interrupted as error:
        fail(str(error), INTERRUPTED)
    except ShowtellError as error:
        fail(str(error))
    except BrokenPipeError:  # the reader of our output has what it wants
        sys.stderr.close()
        sys.exit(2)
    except OSError as error:
        _give_up_output()
        fail(reason(error) if error.filename else f"input or output: {error.strerror or error}")
    sys.exit(0)


def _configure_pillow() -> None:
    """Set what a program may set for its whole process, but a library may not."""
    # Pillow returns large blocks to the system; every thread keeps the small ones that it used.
    os.environ.setdefault("PILLOW_BLOCK_SIZE", "64M")
    # Broken metadata and large images are handled by showtell.images.
    warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\.")


def _give_up_output() -> None:
    """Have Python, when it ends, not try again to print what could not be printed."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


for command in (
    captioning.caption,
    scoring.evaluate,
    scoring.calibrate,
    captioning.info,
    serving.serve,
    training.prepare,
    training.extract,
    training.train,
    training.export,
):
    app.command()(command)
app.command("alt-text")(alt_text.alt_text)
app.command("tutorial-data")(training.tutorial_data)
