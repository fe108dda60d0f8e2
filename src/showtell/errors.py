"""The errors that showtell raises. Every message says what is wrong, where, and what to do."""

from importlib import import_module
from typing import Any


class ShowtellError(Exception):
    """Base of all errors that a user can cause or mend; its message is one line meant for people."""


class ImageError(ShowtellError):
    """An image file that cannot be read or decoded."""


class CaptionFileError(ShowtellError):
    """A caption file that cannot be understood."""


class FeatureError(ShowtellError):
    """A feature file that cannot be read, or that does not hold what it is asked for."""


class BundleError(ShowtellError):
    """A bundle that is damaged, incomplete or newer than this program."""


class MismatchError(ShowtellError):
    """Two things made with different encoders or vocabularies were to be joined."""


class ConfigurationError(ShowtellError):
    """An option, recipe or combination of them that cannot work."""


class Interrupted(ShowtellError):
    """Work that was asked to stop, and has kept what was done."""


class MissingExtra(ShowtellError):
    """A part of showtell whose optional dependencies are not installed."""

    def __init__(self, feature: str, extra: str):
        super().__init__(f"{feature} needs more packages; install them with: pip install 'showtell[{extra}]'")


def import_extra(module: str, feature: str, extra: str) -> Any:
    """Import a module of an optional dependency. Raises MissingExtra, which says what to install for `feature`."""
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise MissingExtra(feature, extra) from None
