"""The standard streams of the command line."""

import os
import sys
from io import TextIOWrapper

from showtell.utils.text import printable


def print_line(*cells: object) -> None:
    """Print cells as one line, separated by tabs. Control characters, such as line breaks, are escaped."""
    print("\t".join(printable(str(cell)) for cell in cells), flush=True)


def prepare_streams() -> None:
    """Replace closed standard streams, and escape characters that standard output cannot encode."""
    # Without the replacement, the next opened file would get the file descriptor of the closed stream. The replacement
    # of standard output is not writable, so that lost results are an error.
    for number, name, mode, access in (
        (0, "stdin", "r", os.O_RDONLY),
        (1, "stdout", "w", os.O_RDONLY),
        (2, "stderr", "w", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, access)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            os.set_inheritable(number, True)  # worker processes need all three streams
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: SIM115 - it stays open
    if isinstance(sys.stdout, TextIOWrapper):  # the terminal's encoding may lack characters of a path or caption
        sys.stdout.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Keep Python from flushing the standard streams at exit if they cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
