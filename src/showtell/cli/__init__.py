"""The command line: parse, call, print.

Exit status 0: success. 1: some inputs failed, the others are done. 2: error. 130: interrupted by Ctrl-C.
Results go to standard output, everything else to standard error.
"""

import errno
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, NoReturn

import typer
from PIL import EpsImagePlugin

from showtell import __version__
from showtell.cli import alt_text, captioning, ray, scoring, serving, training
from showtell.cli.logs import install_handler, logger
from showtell.cli.options import INTERRUPTED, exit_stack, fail
from showtell.cli.streams import discard_output, prepare_streams, print_line
from showtell.errors import Interrupted, ShowtellError, describe_error
from showtell.utils.signals import end_on_second_interrupt

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
    prepare_streams()
    install_handler()
    _configure_pillow()
    end_on_second_interrupt()
    _refuse_empty_arguments(sys.argv[1:])
    try:
        with exit_stack:
            try:
                status = app(standalone_mode=False)
            finally:
                sys.stdout.flush()
    except typer.TyperException as error:
        _fail_usage(error)
    except (KeyboardInterrupt, typer.Abort):
        fail("interrupted", INTERRUPTED)
    except Interrupted as error:
        fail(str(error), INTERRUPTED)
    except ShowtellError as error:
        fail(str(error))
    except BrokenPipeError:  # the program that reads our output has closed it, as `head` does
        discard_output()
        sys.exit(2)
    except MemoryError:
        fail("not enough memory: the images, captions or settings are too large for this machine; reduce them")
    except OSError as error:
        discard_output()
        fail(_describe_os_error(error))
    sys.exit(status)


def _refuse_empty_arguments(arguments: Sequence[str]) -> None:
    """Exit if an argument is empty. As a path, an empty argument would mean the current folder."""
    for before, argument in pairwise(["", *arguments]):
        option, separator, value = argument.partition("=") if argument.startswith("--") else (before, "=", argument)
        if separator and not value:
            detail = f": {option}" if option.startswith("-") else ""
            fail(f"an argument is empty{detail}; check the variables in the command")


def _describe_os_error(error: OSError) -> str:
    if error.filename:
        return describe_error(error)
    if error.errno == errno.EBADF:
        return "standard output is closed"
    return f"input or output failed: {error.strerror or error}"


def _fail_usage(error: typer.TyperException) -> NoReturn:
    """Report wrong arguments. If there are none at all, Typer has printed the help instead of a message."""
    if message := error.format_message():
        context: typer.Context | None = getattr(error, "ctx", None)
        fail(f"{message.rstrip('.')}. See `{context.command_path if context else app.info.name} --help`.")
    sys.exit(error.exit_code)


def _configure_pillow() -> None:
    """Apply settings for the whole process, which a library must not change."""
    # Pillow returns large blocks of memory to the system, but every thread keeps the small blocks that it used.
    os.environ.setdefault("PILLOW_BLOCK_SIZE", "64M")
    # Broken metadata and large images are handled by showtell.images.
    warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\.")
    EpsImagePlugin.gs_binary = False  # an image file must not start Ghostscript


def _print_version(is_set: bool) -> None:
    if is_set:
        print_line(__version__)
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
