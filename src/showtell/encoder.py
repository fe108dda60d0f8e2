"""What an image encoder is, and the description of one that travels with all that was made with it."""

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from showtell.errors import MismatchError
from showtell.images import Preprocess
from showtell.utils.field_types import check_field_types


@dataclass(frozen=True)
class EncoderInfo:
    """The identity of an encoder, as feature files, training runs and bundles record it.

    Attributes:
        name: the encoder's name in the table of encoders.
        fingerprint: twelve hexadecimal digits of its weights and of the output that is taken.
        preprocess: how images are brought to its input size.
        cells: grid cells an image (G); 1 for pooled features.
        channels: numbers a cell (D).
    """

    name: str
    fingerprint: str
    preprocess: Preprocess
    cells: int
    channels: int

    def to_dict(self) -> dict[str, Any]:
        """Return a form that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "EncoderInfo":
        """Read what `to_dict` gave. Raises TypeError, KeyError or ConfigurationError on anything else."""
        return check_field_types(cls(**{**value, "preprocess": check_field_types(Preprocess(**value["preprocess"]))}))

    def require_same(self, other: "EncoderInfo", what: str, other_what: str) -> None:
        """Raise MismatchError unless both name the same encoder with the same weights and preprocessing."""
        if self != other:
            raise MismatchError(
                f"{what} was made with encoder {self}, {other_what} with {other}; "
                "features of two encoders cannot be joined: extract them again with one of the two"
            )

    def __str__(self) -> str:
        preprocess = self.preprocess
        return (
            f"{self.name} {self.fingerprint} ({preprocess.resize} to {preprocess.size}, {preprocess.interpolation}, "
            f"{self.cells} x {self.channels})"
        )


class Encoder(Protocol):
    """Turns pixels into features; scaling and normalisation happen inside."""

    info: EncoderInfo

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Take images (N, H, W, 3) uint8 as `info.preprocess` makes them; return features (N, G, D) float32."""
        ...
