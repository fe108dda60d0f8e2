"""From images to captions: bundles, models, decoding and confidence."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from showtell.inference.bundle import Bundle
from showtell.inference.caption import Caption, CaptionResult
from showtell.inference.decoder_step import DecoderState, DecoderStep
from showtell.inference.search_options import SearchOptions

if TYPE_CHECKING:
    from showtell.inference.captioner import Captioner as Captioner

__all__ = ["Bundle", "Caption", "CaptionResult", "Captioner", "DecoderState", "DecoderStep", "SearchOptions"]


def __getattr__(name: str) -> Any:
    if name != "Captioner":  # loaded on first use, because it imports ONNX Runtime
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("showtell.inference.captioner").Captioner
