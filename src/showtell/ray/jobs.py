"""Jobs: a pool of Ray Data workers processes shards and writes one result file per shard.

Ray Data schedules and places workers, restarts those that die, and gives their shards to others. It cannot resume a
job. Therefore each shard is one row of the data set, and a shard whose result file exists is skipped.
"""

import hashlib
import io
import json
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from showtell.errors import ConfigurationError, JobError, ShowtellError
from showtell.ray.folder import JobFolder
from showtell.ray.inputs import Shard
from showtell.ray.work import ERRORS, Count, Work
from showtell.utils.streams import suppress_stderr
from showtell.utils.text import one_line

logger = logging.getLogger(__name__)

# Longer than any shard takes. If a shard kills every worker, Ray Data gives up after this time.
NO_PROGRESS_SECONDS = 4 * 3600
CONNECTION_SECONDS = 10
ROUNDING = 1e-9  # so that five workers with 0.2 GPUs each fit on one GPU


@dataclass(frozen=True)
class WorkerPool:
    """The workers of a job.

    Attributes:
        address: address of the Ray cluster; None for RAY_ADDRESS, the cluster on this machine, or else a new one.
        workers: maximum number of workers; None for as many as fit.
        cpus: CPUs per worker; also its number of threads.
        gpus: GPUs per worker.
    """

    address: str | None = None
    workers: int | None = None
    cpus: float = 1
    gpus: float = 0


@dataclass(frozen=True)
class Report:
    """The result of a job.

    Attributes:
        count: images processed by this run.
        shards: total number of shards.
        finished_before: shards that earlier runs had finished.
        errors: whether any image could not be read, in this run or an earlier one.
    """

    count: Count
    shards: int
    finished_before: int
    errors: bool


def run_job(
    work: Work,
    shards: Sequence[Shard],
    url: str,
    pool: WorkerPool,
    progress: Callable[[int, int, str], None],
) -> Report:
    """Process the shards that have no results yet.

    Args:
        work: the work on each shard.
        shards: all shards of the job.
        url: folder or URL of the results. All machines must have access to it and to the input.
        pool: the workers.
        progress: called with the number of finished shards, the total, and the number of images as text.

    Raises:
        ConfigurationError: if the folder contains another job, no cluster answers, or no machine is large enough.
        JobError: if the job stops before it is complete.
    """
    folder = JobFolder(url)
    digest = hashlib.sha256(json.dumps([astuple(shard) for shard in shards]).encode()).hexdigest()[:12]
    folder.claim({"work": work.kind, **work.settings(), "shards": len(shards), "inputs": digest})
    names = [f"{number:05}-of-{len(shards):05}" for number in range(len(shards))]
    existing = folder.files(work.kind, work.suffix)
    missing = [(shard, name) for shard, name in zip(shards, names, strict=True) if name not in existing]
    before = len(shards) - len(missing)
    count = Count()
    if missing:
        progress(before, len(shards), "")
        with _cluster(pool) as ray:
            for finished, part in enumerate(_process_shards(ray, work, missing, folder, pool), before + 1):
                count += part
                progress(finished, len(shards), f"{count.done} images")
        if lost := {name for _, name in missing} - folder.files(work.kind, work.suffix):
            raise JobError(
                f"{url}: {len(lost)} of {len(shards)} shards are missing; check that all machines share this folder"
            )
    return Report(count, len(shards), before, bool(folder.files(ERRORS, "")))


@contextmanager
def _cluster(pool: WorkerPool) -> Iterator[Any]:
    import ray

    host, _, port = (pool.address or "").rpartition(":")
    try:
        if port.isdecimal():  # Ray itself would wait for minutes
            socket.create_connection((host.removeprefix("ray://"), int(port)), CONNECTION_SECONDS).close()
        with suppress_stderr(), _without_dashboard() as options:
            ray.init(pool.address, logging_level=logging.CRITICAL, log_to_driver=False, **options)
    except (OSError, ValueError, RuntimeError) as error:
        reason = one_line(error)[:200]
        raise ConfigurationError(f"--address {pool.address}: no Ray cluster answers: {reason}") from None
    try:
        with redirect_stdout(_RayReports()):
            yield ray
    finally:
        ray.shutdown()


@contextmanager
def _without_dashboard() -> Iterator[dict[str, Any]]:
    """Yield options of `ray.init` that start a new cluster without a dashboard.

    The process of the dashboard looks up the metadata servers of cloud providers, even if usage statistics are off and
    `include_dashboard` is False. It does not start if its port is taken.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"include_dashboard": False, "dashboard_host": "127.0.0.1", "dashboard_port": server.getsockname()[1]}


def _process_shards(
    ray: Any, work: Work, missing: Sequence[tuple[Shard, str]], folder: JobFolder, pool: WorkerPool
) -> Iterator[Count]:
    from ray.data import ActorPoolStrategy, DataContext, from_items
    from ray.data.exceptions import ExecutionTimeoutError
    from ray.exceptions import RayError

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = NO_PROGRESS_SECONDS
    workers = min(len(missing), pool.workers or _count_fitting_workers(ray, pool))
    rows = from_items(
        [{"shard": shard, "name": name} for shard, name in missing], override_num_blocks=len(missing)
    ).map(
        _Worker,
        fn_constructor_args=(work, folder, str(Path.cwd())),
        compute=ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers, max_tasks_in_flight_per_actor=1),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )
    try:
        for row in rows.iter_rows():
            if row["error"]:
                raise JobError(f"{row['error']}; run the same command to resume the job")
            yield Count(row["done"], row["failed"])
    except (RayError, ExecutionTimeoutError) as error:
        reason = one_line(error)[:300]
        raise JobError(f"Ray stopped the job: {reason}; run the same command to resume it") from None


def _count_fitting_workers(ray: Any, pool: WorkerPool) -> int:
    """Return how many workers fit into the cluster. Raises ConfigurationError if none fits."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {name: amount for name, amount in (("CPU", pool.cpus), ("GPU", pool.gpus)) if amount}
    count = sum(int(min(node.get(name, 0) / amount for name, amount in wanted.items()) + ROUNDING) for node in nodes)
    if not count:
        size = " and ".join(f"{amount:g} {name}s" for name, amount in wanted.items())
        raise ConfigurationError(f"no machine of the cluster has {size}; reduce --cpus or --gpus")
    return count


class _RayReports(io.StringIO):
    """Receives Ray's reports on workers and machines that died, and logs one line of each."""

    def write(self, text: str) -> int:
        if line := re.sub(r"\x1b\[\d*m", "", text).strip().partition("\n")[0]:
            logger.warning("Ray: %s", line.partition(". ")[0][:200])
        return len(text)


class _Worker:
    """Processes the rows of the data set in a Ray worker, which keeps the model loaded."""

    def __init__(self, work: Work, folder: JobFolder, working_dir: str):
        self._work = work
        self._folder = folder
        # TensorFlow reads this variable; other libraries read OMP_NUM_THREADS, which Ray sets.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", os.environ.get("OMP_NUM_THREADS", "0"))
        with suppress(OSError):  # without this folder, relative paths fail with a clear error
            os.chdir(working_dir)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            count = self._work(row["shard"], row["name"], self._folder)
        except Exception as error:  # Ray would turn an exception into a page of traceback
            kind = "" if isinstance(error, ShowtellError | OSError) else f"{type(error).__name__}: "
            return {"done": 0, "failed": 0, "error": f"shard {row['name']}: {kind}{one_line(error)}"}
        return {"done": count.done, "failed": count.failed, "error": ""}
