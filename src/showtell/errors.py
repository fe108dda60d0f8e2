"""The errors that showtell raises. Every message says what is wrong, where, and what to do."""


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


class MissingExtra(ShowtellError):
    """A part of showtell whose optional dependencies are not installed."""

    def __init__(self, feature: str, extra: str):
        super().__init__(f"{feature} needs more packages; install them with: pip install 'showtell[{extra}]'")
