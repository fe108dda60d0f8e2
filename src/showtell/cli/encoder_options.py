"""Options that `extract` and `ray extract` share."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from showtell.recipe import EncoderConfig

if TYPE_CHECKING:
    from showtell.encoder import Encoder
    from showtell.training.warm_start import WarmStart

EncoderName = Annotated[str, typer.Option(help="Image encoder. Pass an unknown name to list all encoders.")]
EncoderWeights = Annotated[str, typer.Option(help="Encoder weights: imagenet, none (random), or a weights file.")]
Grid = Annotated[bool, typer.Option("--grid", help="Keep the feature grid instead of averaging over it.")]
FeatureDtype = Annotated[Literal["float16", "float32"], typer.Option(help="Data type of the features.")]
PreparedCaptions = Annotated[
    Path | None,
    typer.Option("--captions", metavar="FILE", help="captions.h5 file. Extract only the images of its --split."),
]
PreparedSplit = Annotated[Literal["train", "val"], typer.Option("--split", help="Split of --captions to extract.")]


def encoder_loader(config: EncoderConfig, start_from: Path | None) -> "Callable[[], Encoder]":
    """Return a function that loads the encoder. It can be pickled and called in another process."""
    if start_from:
        return partial(_load_encoder_of, start_from, config.encoder_weights)
    from showtell.training.encoders import load_encoder

    return partial(load_encoder, config)


def _load_encoder_of(start_from: Path, encoder_weights: str) -> "Encoder":
    return load_start(start_from).load_encoder(encoder_weights)


def load_start(path: Path) -> "WarmStart":
    """Load the captioner of `--start-from`."""
    from showtell.training import require_keras

    require_keras("--start-from")
    from showtell.training.warm_start import load_warm_start

    return load_warm_start(path)
