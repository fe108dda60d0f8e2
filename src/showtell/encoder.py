"""The image encoder interface, and the encoder identity that features, runs and bundles record."""

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from showtell.errors import ConfigurationError, MismatchError
from showtell.images import Preprocess
from showtell.utils.field_types import check_field_types

MAX_CELLS = 2500
MAX_CHANNELS = 100_000


@dataclass(frozen=True)
class EncoderInfo:
    """The identity of an encoder.

    Attributes:
        name: name of the encoder, such as "efficientnet_lite2".
        fingerprint: a hash of its weights and its output layer, 12 hexadecimal digits.
        preprocess: how images are resized to its input size.
        cells: number of grid cells per image (G); 1 for pooled features.
        channels: number of features per cell (D).

    Raises:
        ConfigurationError: if a number is out of range.
    """

    name: str
    fingerprint: str
    preprocess: Preprocess
    cells: int
    channels: int

    def __post_init__(self) -> None:
        if not (1 <= self.cells <= MAX_CELLS and 1 <= self.channels <= MAX_CHANNELS):
            raise ConfigurationError(
                f"invalid encoder: {self.cells} cells and {self.channels} channels; it must have 1 to {MAX_CELLS:,} "
                f"cells and 1 to {MAX_CHANNELS:,} channels"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-serialisable values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "EncoderInfo":
        """Read the result of `to_dict`. Raises TypeError, KeyError or ConfigurationError if it is invalid."""
        return check_field_types(cls(**{**value, "preprocess": check_field_types(Preprocess(**value["preprocess"]))}))

    def require_same(self, other: "EncoderInfo", what: str, other_what: str) -> None:
        """Raise MismatchError unless both are the same encoder with the same weights and preprocessing.

        Args:
            other: the encoder to compare with.
            what: what this encoder belongs to, for the message.
            other_what: what the other encoder belongs to.
        """
        if self != other:
            raise MismatchError(
                f"{what} was made with encoder {self}, but {other_what} with {other}; "
                "features of different encoders cannot be combined: extract them again with the same encoder"
            )

    def __str__(self) -> str:
        preprocess = self.preprocess
        return (
            f"{self.name} {self.fingerprint} ({preprocess.resize} to {preprocess.size}, {preprocess.interpolation}, "
            f"{self.cells} x {self.channels})"
        )


class Encoder(Protocol):
    """Converts pixels to features. Scaling and normalisation are part of the encoder."""

    info: EncoderInfo

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Return features (N, G, D) float32 of images (N, H, W, 3) uint8 that `info.preprocess` has prepared."""
        ...
