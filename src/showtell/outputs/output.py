"""The base classes of the outputs of a caption job."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from showtell.inference.caption import Caption
from showtell.outputs.records import Record


class Output(ABC):
    """A destination of captions.

    Attributes:
        is_per_image: whether the output writes one file per image. If such a file cannot be written, only its image
            fails. If another output cannot be written, the job stops.
    """

    is_per_image: bool = False

    @abstractmethod
    def add(self, record: Record, captions: Sequence[Caption] = ()) -> None:
        """Write the result of one image. `captions` has details that a record omits, such as attention weights."""

    def close(self) -> None:  # noqa: B027 - most outputs are complete at any time
        """Complete the output after the last image. Does nothing by default."""


class ResumableOutput(Output):
    """An output that knows the captions of earlier runs. A job skips an image if all such outputs have its caption."""

    @abstractmethod
    def has(self, path: str) -> bool:
        """Return whether the output has a caption of this image. An error does not count."""
