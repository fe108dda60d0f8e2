"""The engine ray of `showtell caption` and `showtell extract`: their options, and the jobs."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from showtell.cli.options import resume_hint_on_interrupt, say
from showtell.errors import ConfigurationError
from showtell.utils.progress import progress_bar

if TYPE_CHECKING:
    from showtell.ray.inputs import Shard
    from showtell.ray.work import Work

SHARD_SIZE = 1024

_PANEL = "Many machines, with --engine ray"
Engine = Annotated[
    Literal["local", "ray"], typer.Option(help="local, or Ray Data on one machine or many.", rich_help_panel=_PANEL)
]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster. (the one that runs here, else a new one)", rich_help_panel=_PANEL),
]
Actors = Annotated[int | None, typer.Option(min=1, help="Workers at most. (as many as fit)", rich_help_panel=_PANEL)]
Cpus = Annotated[float | None, typer.Option(min=0, help="CPUs, and threads, of a worker. (1)", rich_help_panel=_PANEL)]
Gpus = Annotated[
    float | None,
    typer.Option(min=0, help="GPUs of a worker, for encoders of Keras. (0)", rich_help_panel=_PANEL),
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Images at a time. (as the local engine)", rich_help_panel=_PANEL)
]
ShardSize = Annotated[
    int | None,
    typer.Option(min=1, help=f"Images of a shard of the results. ({SHARD_SIZE})", rich_help_panel=_PANEL),
]
Results = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="DIR", help="Folder or address of the results.", rich_help_panel=_PANEL),
]
TableFormat = Annotated[
    Literal["parquet", "jsonl"] | None,
    typer.Option("--format", help="Format of the results. (parquet)", rich_help_panel=_PANEL),
]


@dataclass(frozen=True)
class RayOptions:
    """The options of `--engine ray` as they were given. Captions are made on CPUs, by ONNX Runtime."""

    address: str | None
    actors: int | None
    cpus: float | None
    batch_size: int | None
    shard_size: int | None
    gpus: float | None = None


def reject_options(engine: str, **options: Any) -> None:
    """Raise ConfigurationError if options are given that this engine does not have."""
    given = ["--" + name.replace("_", "-") for name, value in options.items() if value not in (None, False)]
    if given:
        raise ConfigurationError(f"{', '.join(given)}: not with --engine {engine}")


def list_inputs(
    engine_options: RayOptions, places: Iterable[str], recursive: bool = True, root: str = ""
) -> "list[Shard]":
    """Load Ray, and list the shards of what is to be read. Raises ConfigurationError, MissingExtra."""
    from showtell.ray import require_ray

    require_ray("--engine ray")
    from showtell.ray.inputs import list_shards

    return list_shards(places, engine_options.shard_size or SHARD_SIZE, recursive, root)


def run_job(work: "Work", shards: "list[Shard]", output: str | None, options: RayOptions) -> None:
    """Run a job on Ray, with progress, and leave with the exit status of what came of it."""
    from showtell.ray.jobs import Pool, run

    if not output:
        raise ConfigurationError("--engine ray needs a folder for the results: --output DIR")
    cpus, gpus = 1 if options.cpus is None else options.cpus, options.gpus or 0
    if not cpus and not gpus:
        raise ConfigurationError("--cpus must be more than 0, unless workers have GPUs")
    pool = Pool(options.address, options.actors, cpus, gpus)
    with resume_hint_on_interrupt(), progress_bar(f"{work.kind}", "shards") as advance:
        report = run(work, shards, output, pool, advance)
    place, count = output.rstrip("/"), report.count
    before = f"; {report.before} of {report.shards} shards were there already" if report.before else ""
    say(f"showtell: {count.done} images {work.unit}, in {place}/{work.kind}{before}")
    if report.errors:
        failed = f"{count.failed} images" if count.failed else "images of an earlier run"
        say(f"showtell: {failed} could not be read; what is in {place}/errors is not tried again")
        raise typer.Exit(1)


def places_and_root(
    images: str, captions: Path | None, split: Literal["train", "val"], stdin: Iterable[str]
) -> tuple[list[str], str]:
    """Return what `showtell extract` reads, and what of its paths is no part of the names of images."""
    if images == "-":
        return list(stdin), ""
    root = images.rstrip("/") + "/"
    if captions is None:
        return [images], root
    from showtell.data import read_image_names

    return [root + name for name in read_image_names(captions, split)], root
