"""Arguments and options that several captioning commands share."""

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from showtell.errors import ConfigurationError
from showtell.utils.files import parse_path_list

if TYPE_CHECKING:
    from showtell.inference.captioner import Captioner
    from showtell.inference.search_options import SearchOptions

logger = logging.getLogger(__name__)

DecodingStrategy = Annotated[Literal["beam", "greedy", "sample"], typer.Option(help="Decoding strategy.")]
BeamSize = Annotated[int | None, typer.Option(help="Beam width.", show_default="from the bundle")]
NBest = Annotated[int, typer.Option(help="Number of captions per image.")]
MinWords = Annotated[
    int | None,
    typer.Option(help="Minimum caption length in words (tokens for bpe/char).", show_default="from the bundle"),
]
MaxWords = Annotated[
    int | None,
    typer.Option(help="Maximum caption length in words (tokens for bpe/char).", show_default="from the bundle"),
]
Forbid = Annotated[
    list[str] | None,
    typer.Option(metavar="WORD", help="Word that captions must not contain. Can be repeated."),
]
MinConfidence = Annotated[
    float | None, typer.Option(min=0, max=1, help="Mark captions with a lower confidence as needing review.")
]
Recursive = Annotated[bool, typer.Option("--recursive/--no-recursive", help="Search subfolders too.")]


@dataclass(frozen=True)
class DecodingOptions:
    """The decoding options of the command line. None stands for the default of the bundle."""

    strategy: Literal["beam", "greedy", "sample"] = "beam"
    beam_size: int | None = None
    n_best: int = 1
    min_words: int | None = None
    max_words: int | None = None
    forbid: Sequence[str] = ()

    def search_options(self, captioner: "Captioner") -> "SearchOptions":
        """Return the search options of a captioner with these options applied. Raises ConfigurationError."""
        if self.min_words is not None and self.max_words is not None and self.min_words > self.max_words:
            raise ConfigurationError(f"--min-words {self.min_words} is larger than --max-words {self.max_words}")
        defaults = captioner.search_options
        forbidden = map(captioner.vocabulary.find_id, self.forbid)
        changes = {"beam_size": self.beam_size, "min_length": self.min_words, "max_length": self.max_words}
        return defaults.override(
            strategy=self.strategy,
            n_best=self.n_best,
            suppress_tokens=(*defaults.suppress_tokens, *forbidden),
            **{name: value for name, value in changes.items() if value is not None},
        )


def check_confidence(captioner: "Captioner", min_confidence: float, options: "SearchOptions") -> None:
    """Check that captions can be compared with a confidence threshold.

    Log a warning if the confidence is not calibrated for the search options.

    Raises:
        ConfigurationError: if the threshold is not between 0 and 1, or the captioner has no calibration.
    """
    if not 0 <= min_confidence <= 1:
        raise ConfigurationError(f"--min-confidence must be between 0 and 1, not {min_confidence}")
    if captioner.calibration is None:
        raise ConfigurationError(
            "--min-confidence needs a single bundle with a calibration; add one with `showtell calibrate`"
        )
    defaults = captioner.search_options
    if replace(options, n_best=defaults.n_best) != defaults:
        logger.warning(
            "the confidence is calibrated for the search options of the bundle; it is less reliable with other options"
        )


def read_paths(arguments: Iterable[str]) -> Iterator[str]:
    """Yield paths from the command line. The argument - stands for a list of paths on standard input."""
    for argument in arguments:
        if argument == "-":
            yield from parse_path_list(sys.stdin.buffer.read())
        else:
            yield argument
