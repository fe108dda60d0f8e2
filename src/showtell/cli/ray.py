"""The commands for a Ray cluster: ray caption, ray extract."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from showtell.cli.caption_options import (
    BeamSize,
    DecodingOptions,
    DecodingStrategy,
    Forbid,
    MaxWords,
    MinConfidence,
    MinWords,
    NBest,
    Recursive,
    check_confidence,
    read_paths,
)
from showtell.cli.encoder_options import (
    EncoderName,
    EncoderWeights,
    FeatureDtype,
    Grid,
    PreparedCaptions,
    PreparedSplit,
    encoder_loader,
)
from showtell.cli.options import Models, StartFrom, resume_hint_on_interrupt
from showtell.errors import ConfigurationError
from showtell.ray import require_ray
from showtell.recipe import EncoderConfig
from showtell.utils.progress import progress_bar
from showtell.utils.text import plural

if TYPE_CHECKING:
    from showtell.ray.inputs import Shard
    from showtell.ray.jobs import WorkerPool
    from showtell.ray.work import Work

logger = logging.getLogger(__name__)

app = typer.Typer(help="Caption images and extract features on a Ray cluster.", no_args_is_help=True)

_CLUSTER = "Cluster"
Results = Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="Folder or URL of the results.")]
Address = Annotated[
    str | None,
    typer.Option(
        help="Address of the Ray cluster.",
        show_default="a running cluster, or else a new one",
        rich_help_panel=_CLUSTER,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Maximum number of workers.", show_default="as many as fit", rich_help_panel=_CLUSTER),
]
Cpus = Annotated[float, typer.Option(min=0, help="CPUs and threads per worker.", rich_help_panel=_CLUSTER)]
Gpus = Annotated[float, typer.Option(min=0, help="GPUs per worker, for Keras encoders.", rich_help_panel=_CLUSTER)]
BatchSize = Annotated[
    int | None,
    typer.Option(min=1, help="Images per batch.", show_default="same as without Ray", rich_help_panel=_CLUSTER),
]
ShardSize = Annotated[int, typer.Option(min=1, help="Images per result file.", rich_help_panel=_CLUSTER)]
TableFormat = Annotated[Literal["parquet", "jsonl"], typer.Option("--format", help="Format of the results.")]


@app.command()
def caption(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATHS",
            help="Images, .tar files, Parquet files, folders, or URLs. Use - to read paths from standard input.",
        ),
    ],
    output: Results,
    model: Models = None,
    beam_size: BeamSize = None,
    n_best: NBest = 1,
    strategy: DecodingStrategy = "beam",
    min_words: MinWords = None,
    max_words: MaxWords = None,
    forbid: Forbid = None,
    min_confidence: MinConfidence = None,
    recursive: Recursive = True,
    table_format: TableFormat = "parquet",
    address: Address = None,
    workers: Workers = None,
    cpus: Cpus = 1,
    batch_size: BatchSize = None,
    shard_size: ShardSize = 1024,
) -> None:
    """Caption images on a Ray cluster. Running the same command again resumes an interrupted job."""
    from showtell.inference.captioner import BATCH_SIZE, Captioner

    pool = _load_ray(address, workers, cpus)
    captioner = Captioner.load(*model or ())
    decoding = DecodingOptions(strategy, beam_size, n_best, min_words, max_words, forbid or ())
    options = decoding.search_options(captioner)
    if min_confidence is not None:
        check_confidence(captioner, min_confidence, options)
    from showtell.ray.inputs import list_shards
    from showtell.ray.work import CaptionWork

    shards = list_shards(read_paths(paths), shard_size, recursive)
    work = CaptionWork(captioner.bundles, options, min_confidence, table_format, batch_size or BATCH_SIZE)
    _run_job(work, shards, output, pool)


@app.command()
def extract(
    images: Annotated[
        str,
        typer.Argument(help="Image, .tar file, Parquet file, folder, or URL. Use - to read paths from standard input."),
    ],
    output: Results,
    encoder: EncoderName = EncoderConfig.encoder,
    encoder_weights: EncoderWeights = EncoderConfig.encoder_weights,
    grid: Grid = False,
    dtype: FeatureDtype = "float16",
    captions: PreparedCaptions = None,
    split: PreparedSplit = "train",
    start_from: StartFrom = None,
    address: Address = None,
    workers: Workers = None,
    cpus: Cpus = 1,
    gpus: Gpus = 0,
    batch_size: BatchSize = None,
    shard_size: ShardSize = 1024,
) -> None:
    """Extract image features on a Ray cluster. Running the same command again resumes an interrupted job."""
    from showtell.data.extraction import BATCH_SIZE

    pool = _load_ray(address, workers, cpus, gpus)
    load = encoder_loader(EncoderConfig(encoder, encoder_weights, grid), start_from)
    from showtell.ray.inputs import list_shards
    from showtell.ray.work import ExtractionWork

    urls, root = _urls_and_root(images, captions, split)
    shards = list_shards(urls, shard_size, root=root)
    _run_job(ExtractionWork(load, load().info, dtype, batch_size or BATCH_SIZE), shards, output, pool)


def _load_ray(address: str | None, workers: int | None, cpus: float, gpus: float = 0) -> "WorkerPool":
    """Import Ray and return the options of the worker pool. Raises MissingExtra, ConfigurationError."""
    require_ray("showtell ray")
    from showtell.ray.jobs import WorkerPool

    if not cpus and not gpus:
        raise ConfigurationError("--cpus must be greater than 0, unless --gpus is greater than 0")
    return WorkerPool(address, workers, cpus, gpus)


def _run_job(work: "Work", shards: "list[Shard]", output: str, pool: "WorkerPool") -> None:
    """Run a job with a progress bar and log its result. Exit with status 1 if images could not be read."""
    from showtell.ray.jobs import run_job

    with resume_hint_on_interrupt(), progress_bar(work.kind, "shards") as advance:
        report = run_job(work, shards, output, pool, advance)
    folder, count = output.rstrip("/"), report.count
    if report.finished_before:
        logger.info("skipped %d of %d shards that an earlier run had finished", report.finished_before, report.shards)
    logger.info("%s %s; the results are in %s/%s", plural(count.done, "image"), work.unit, folder, work.kind)
    if report.errors:
        failed = plural(count.failed, "image") if count.failed else "images of an earlier run"
        logger.warning("%s could not be read and will not be retried; see %s/errors", failed, folder)
        raise typer.Exit(1)


def _urls_and_root(images: str, captions: Path | None, split: Literal["train", "val"]) -> tuple[Iterable[str], str]:
    """Return the paths or URLs to read, and the prefix to remove from them to get image names for a feature file."""
    if images == "-":
        return read_paths(["-"]), ""
    root = images.rstrip("/") + "/"
    if captions is None:
        return [images], root
    from showtell.data import read_image_names

    return [root + name for name in read_image_names(captions, split)], root
