"""Jobs: shards through a pool of workers on Ray Data, each shard's results a file.

Ray Data schedules, places workers, starts them anew where one dies, and gives their shards to others. What it does not
have is a job that goes on where it stopped: hence a shard is one row of its data set, and is done if its file is there.
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

from showtell.errors import ConfigurationError, ShowtellError
from showtell.ray.folder import Folder
from showtell.ray.inputs import Shard
from showtell.ray.work import ERRORS, Count, Work
from showtell.utils.streams import suppress_stderr

# Longer than any shard takes. If a shard kills every worker that it is given to, this is when Ray Data gives up.
NO_PROGRESS_SECONDS = 4 * 3600
CONNECTION_SECONDS = 10
ROUNDING = 1e-9  # five workers of a fifth of a GPU each fit


class JobError(ShowtellError):
    """A job that could not be finished; the same command goes on with it."""


@dataclass(frozen=True)
class Pool:
    """The workers of a job.

    Attributes:
        address: of the Ray cluster; None for the one of RAY_ADDRESS, or that runs on this machine, else a new one.
        actors: how many workers at most; None for as many as fit.
        cpus: of each worker, which decide how many threads it has.
        gpus: of each worker.
    """

    address: str | None = None
    actors: int | None = None
    cpus: float = 1
    gpus: float = 0


@dataclass(frozen=True)
class Report:
    """What came of a job.

    Attributes:
        count: the images of this time.
        shards: shards in all.
        before: shards that were done already.
        errors: whether any image, of earlier times too, could not be read.
    """

    count: Count
    shards: int
    before: int
    errors: bool


def run(
    work: Work,
    shards: Sequence[Shard],
    place: str,
    pool: Pool,
    progress: Callable[[int, int, str], None],
    say: Callable[[str], None],
) -> Report:
    """Do the shards whose results are not in a folder yet.

    Args:
        work: what to do with each.
        shards: all shards of the job.
        place: the folder, or its address; all machines must reach it, and the input.
        pool: who does it.
        progress: called with the number of shards done, that of all, and a word on the images.
        say: called with a line on every worker or machine that dies.

    Raises:
        ConfigurationError: if there is another job in the folder, or no cluster, or no machine of the size asked for.
        JobError: if the job had to stop before its end.
    """
    folder = Folder(place)
    digest = hashlib.sha256(json.dumps([astuple(shard) for shard in shards]).encode()).hexdigest()[:12]
    folder.claim({"work": work.kind, **work.settings(), "shards": len(shards), "inputs": digest})
    names = [f"{number:05}-of-{len(shards):05}" for number in range(len(shards))]
    there = folder.files(work.kind, work.suffix)
    missing = [(shard, name) for shard, name in zip(shards, names, strict=True) if name not in there]
    before = len(shards) - len(missing)
    count = Count()
    if missing:
        progress(before, len(shards), "")
        with _cluster(pool, say) as ray:
            for finished, part in enumerate(_results(ray, work, missing, folder, pool), before + 1):
                count += part
                progress(finished, len(shards), f"{count.done} images")
        if lost := {name for _, name in missing} - folder.files(work.kind, work.suffix):
            raise JobError(f"{place}: {len(lost)} of {len(shards)} shards did not arrive; do all machines share it?")
    return Report(count, len(shards), before, bool(folder.files(ERRORS, "")))


@contextmanager
def _cluster(pool: Pool, say: Callable[[str], None]) -> Iterator[Any]:
    import ray

    host, _, port = (pool.address or "").rpartition(":")
    try:
        if port.isdecimal():  # Ray itself would wait for minutes
            socket.create_connection((host.removeprefix("ray://"), int(port)), CONNECTION_SECONDS).close()
        with suppress_stderr():
            ray.init(pool.address, logging_level=logging.CRITICAL, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"--address {pool.address}: no Ray cluster answers there ({reason})") from None
    try:
        with redirect_stdout(_Notes(say)):
            yield ray
    finally:
        ray.shutdown()


def _results(ray: Any, work: Work, missing: Sequence[tuple[Shard, str]], folder: Folder, pool: Pool) -> Iterator[Count]:
    from ray.data import ActorPoolStrategy, DataContext, from_items
    from ray.data.exceptions import ExecutionTimeoutError
    from ray.exceptions import RayError

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = NO_PROGRESS_SECONDS
    actors = min(len(missing), pool.actors or _fitting(ray, pool))
    rows = from_items(
        [{"shard": shard, "name": name} for shard, name in missing], override_num_blocks=len(missing)
    ).map(
        _Worker,
        fn_constructor_args=(work, folder, str(Path.cwd())),
        compute=ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors, max_tasks_in_flight_per_actor=1),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )
    try:
        for row in rows.iter_rows():
            if row["error"]:
                raise JobError(f"{row['error']}; the same command goes on with the job")
            yield Count(row["done"], row["failed"])
    except (RayError, ExecutionTimeoutError) as error:
        reason = " ".join(str(error).split())[:300]
        raise JobError(f"Ray has stopped the job ({reason}); the same command goes on with it") from None


def _fitting(ray: Any, pool: Pool) -> int:
    """Return how many workers fit into the cluster. Raises ConfigurationError if none does."""
    free = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {name: amount for name, amount in (("CPU", pool.cpus), ("GPU", pool.gpus)) if amount}
    fitting = sum(int(min(node.get(name, 0) / amount for name, amount in wanted.items()) + ROUNDING) for node in free)
    if not fitting:
        size = " and ".join(f"{amount:g} {name}s" for name, amount in wanted.items())
        raise ConfigurationError(f"no machine of the cluster has {size}; ask for less with --cpus and --gpus")
    return fitting


class _Notes(io.StringIO):
    """What Ray prints of workers and machines that die, pages of it: passed on as a line each."""

    def __init__(self, say: Callable[[str], None]):
        super().__init__()
        self._say = say

    def write(self, text: str) -> int:
        if line := re.sub(r"\x1b\[\d*m", "", text).strip().partition("\n")[0]:
            self._say(f"note from Ray: {line.partition('. ')[0][:200]}")
        return len(text)


class _Worker:
    """What Ray Data calls with a row of its data set, in a process that keeps the model."""

    def __init__(self, work: Work, folder: Folder, here: str):
        self._work = work
        self._folder = folder
        # TensorFlow asks for this, all else for what Ray sets.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", os.environ.get("OMP_NUM_THREADS", "0"))
        with suppress(OSError):  # on a machine without that folder, relative paths lead nowhere, and say so
            os.chdir(here)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            count = self._work(row["shard"], row["name"], self._folder)
        except Exception as error:  # what is raised here comes out of Ray as a page of traceback
            kind = "" if isinstance(error, ShowtellError | OSError) else f"{type(error).__name__}: "
            return {"done": 0, "failed": 0, "error": f"shard {row['name']}: {kind}{' '.join(str(error).split())}"}
        return {"done": count.done, "failed": count.failed, "error": ""}
