"""The command line: parse, call, print.

Exit status 0: success. 1: some inputs failed, the others are done. 2: error. 130: interrupted by Ctrl-C.
Results go to standard output, everything else to standard error.
"""

import logging
import os
import sys
import warnings
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer

from showtell import __version__
from showtell.cli import alt_text, captioning, ray, scoring, serving, training
from showtell.cli.logs import install_handler, logger
from showtell.cli.options import INTERRUPTED, exit_stack, fail
from showtell.errors import Interrupted, ShowtellError, describe_error

app = typer.Typer(
    name="showtell",
    help="Caption images offline, and train captioners on your own images.",
    epilog="Results go to standard output, everything else to standard error. Exit status: 0 success, 1 some inputs "
    "failed, 2 error, 130 interrupted by Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> NoReturn:
    """Run the command line. Report errors that a user can cause on one line, without a traceback."""
    install_handler()
    _configure_pillow()
    if isinstance(sys.stdout, TextIOWrapper):  # the terminal's encoding may lack characters of a path or caption
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
    except BrokenPipeError:  # the program that reads our output has closed it, as `head` does
        sys.stderr.close()
        sys.exit(2)
    except OSError as error:
        _discard_output()
        fail(describe_error(error) if error.filename else f"input or output failed: {error.strerror or error}")
    sys.exit(0)


def _configure_pillow() -> None:
    """Apply settings for the whole process, which a library must not change."""
    # Pillow returns large blocks of memory to the system, but every thread keeps the small blocks that it used.
    os.environ.setdefault("PILLOW_BLOCK_SIZE", "64M")
    # Broken metadata and large images are handled by showtell.images.
    warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\.")


def _discard_output() -> None:
    """Keep Python from flushing standard output at exit if it cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_version(is_set: bool) -> None:
    if is_set:
        print(__version__)
        raise typer.Exit


def _enable_debug_messages(is_set: bool) -> None:
    if is_set:
        logger.setLevel(logging.DEBUG)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", callback=_enable_debug_messages, help="Print debug messages too.")
    ] = False,
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
app.add_typer(ray.app, name="ray")
