"""All errors that showtell raises. Each message states on one line what is wrong, where, and what to do."""

from importlib import import_module
from typing import Any


class ShowtellError(Exception):
    """Base class of all errors that a user can cause or fix. The message is one line."""


class ImageError(ShowtellError):
    """An image cannot be read or decoded."""


class CaptionFileError(ShowtellError):
    """A caption file cannot be read or parsed."""


class PageError(ShowtellError):
    """A web page cannot be read, parsed or changed."""


class VocabularyError(ShowtellError):
    """A vocabulary file cannot be read or parsed."""


class FeatureError(ShowtellError):
    """A feature file cannot be read, or lacks the requested images."""


class BundleError(ShowtellError):
    """A bundle is missing, damaged, incomplete or of another format version."""


class MismatchError(ShowtellError):
    """Two parts were made with different encoders or vocabularies and cannot be combined."""


class ConfigurationError(ShowtellError, ValueError):
    """An option, a recipe, or a combination of options is invalid."""


class Interrupted(ShowtellError):
    """Work was stopped on request; finished parts are kept."""


class JobError(ShowtellError):
    """A job on a Ray cluster stopped before it was complete. Running the same command again resumes it."""


class MissingExtra(ShowtellError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str):
        super().__init__(f"{feature} needs additional packages; install them with: pip install 'showtell[{extra}]'")


def describe_error(error: Exception) -> str:
    """Return the message of an error on one line. For an OSError, the message starts with the file name."""
    if isinstance(error, OSError) and error.filename:
        # If renaming failed, the second name is the target, which the user knows.
        return f"{error.filename2 or error.filename}: {error.strerror}"
    return str(error)


def import_extra(module: str, feature: str, extra: str) -> Any:
    """Import a module of an optional dependency.

    Args:
        module: the module to import.
        feature: the feature that needs it, for the error message.
        extra: the showtell extra that installs it.

    Raises:
        MissingExtra: if it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise MissingExtra(feature, extra) from None
