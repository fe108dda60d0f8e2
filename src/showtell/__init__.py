"""showtell: captions for images, offline, from a model that you can train yourself."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from showtell.errors import ShowtellError

if TYPE_CHECKING:
    from showtell.inference.captioner import Caption, Captioner

# ONNX Runtime reads this at import. Without it, ONNX Runtime records events and looks up its maker's server.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["Caption", "Captioner", "ShowtellError", "__version__"]


def __getattr__(name: str) -> Any:
    # Importing the package must cost nothing: ONNX Runtime is loaded when a captioner is first named.
    if name in ("Caption", "Captioner"):
        return getattr(import_module("showtell.inference.captioner"), name)
    raise AttributeError(f"module 'showtell' has no attribute {name!r}")
