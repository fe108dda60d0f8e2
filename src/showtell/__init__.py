"""showtell: offline image captioning, with a bundled model or with one that you train yourself."""

import logging
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from showtell.errors import (
    BundleError,
    CaptionFileError,
    ConfigurationError,
    FeatureError,
    ImageError,
    Interrupted,
    JobError,
    MismatchError,
    MissingExtra,
    PageError,
    ShowtellError,
    VocabularyError,
)

if TYPE_CHECKING:
    from showtell.api import evaluate as evaluate
    from showtell.api import export as export
    from showtell.api import train as train
    from showtell.inference.bundle import Bundle as Bundle
    from showtell.inference.caption import Caption as Caption
    from showtell.inference.caption import CaptionResult as CaptionResult
    from showtell.inference.captioner import Captioner as Captioner
    from showtell.inference.search_options import SearchOptions as SearchOptions

# ONNX Runtime reads this variable at import. Without it, it records telemetry and looks up a Microsoft server.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Log nothing unless the program configures logging.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__version__ = "0.1.0"

# Loaded on first use, so that `import showtell` is fast.
_LAZY = {
    "Bundle": "showtell.inference.bundle",
    "Caption": "showtell.inference.caption",
    "CaptionResult": "showtell.inference.caption",
    "Captioner": "showtell.inference.captioner",
    "SearchOptions": "showtell.inference.search_options",
    "evaluate": "showtell.api",
    "export": "showtell.api",
    "train": "showtell.api",
}

__all__ = [
    "Bundle",
    "BundleError",
    "Caption",
    "CaptionFileError",
    "CaptionResult",
    "Captioner",
    "ConfigurationError",
    "FeatureError",
    "ImageError",
    "Interrupted",
    "JobError",
    "MismatchError",
    "MissingExtra",
    "PageError",
    "SearchOptions",
    "ShowtellError",
    "VocabularyError",
    "__version__",
    "evaluate",
    "export",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'showtell' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
