"""Messages on the command line: log records of showtell, printed to standard error."""

import logging
import sys
from typing import Any

from showtell.utils.text import printable

logger = logging.getLogger("showtell")

PREFIXES = {logging.DEBUG: "debug: ", logging.WARNING: "warning: ", logging.ERROR: "error: "}


class StderrHandler(logging.Handler):
    """Print each record on one line of `sys.stderr`, which a live progress bar may have replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(MessageFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


class MessageFormatter(logging.Formatter):
    """Put the level in front of a message, except for INFO, and escape control characters."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the message of a record on one line. A traceback, if any, follows it."""
        return PREFIXES.get(record.levelno, "") + printable(record.message)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return a traceback with control characters escaped, because it may quote file names."""
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def install_handler() -> None:
    """Send the log records of showtell to standard error, from INFO on."""
    logger.addHandler(StderrHandler())
    logger.setLevel(logging.INFO)
    logger.propagate = False  # libraries may install a handler for the root logger
    logging.getLogger().addHandler(logging.NullHandler())  # quantisation tools warn through the root logger
