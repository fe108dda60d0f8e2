"""The objects that request handlers share."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from showtell.inference.captioner import Captioner
from showtell.server.admission import ServingState
from showtell.server.batching import Batcher
from showtell.server.metrics import Metrics
from showtell.server.settings import ServerSettings


@dataclass(frozen=True)
class ServerContext:
    """The objects that request handlers share, stored as `app.state.context`."""

    captioner: Captioner
    settings: ServerSettings
    state: ServingState
    metrics: Metrics
    batcher: Batcher


def _get_context(request: Request) -> ServerContext:
    return request.app.state.context


# The type of a handler's parameter that FastAPI fills with the context.
Context = Annotated[ServerContext, Depends(_get_context)]
