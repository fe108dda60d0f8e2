"""The Ray commands on a cluster of two nodes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import EXAMPLES

pytest.importorskip("ray", reason="needs Ray: pip install 'showtell[ray]'")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # for the cluster of these tests

import pyarrow
import pyarrow.parquet
from ray._private import ray_constants
from ray.cluster_utils import Cluster

from showtell.data.features import Features
from showtell.inference.captioner import BATCH_SIZE

PHOTOS = sorted(EXAMPLES.glob("*.jpg"))


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two nodes on this machine, each with one CPU."""
    node = {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 96 images in two folders, and one file that is not an image."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(96):
        subfolder = folder / "more" if number % 3 else folder
        subfolder.mkdir(exist_ok=True)
        shutil.copy(PHOTOS[number % len(PHOTOS)], subfolder / f"{number:03}.jpg")
    (folder / "050-broken.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def local_records(photos, tmp_path_factory):
    """The results of `showtell caption` without Ray."""
    file = tmp_path_factory.mktemp("local") / "captions.jsonl"
    command = [sys.executable, "-m", "showtell", "caption", str(photos), "--jsonl", str(file)]
    assert subprocess.run(command, check=False, capture_output=True, timeout=120).returncode == 1
    return read_lines([file])


def read_lines(files):
    return sorted((json.loads(line) for file in files for line in file.open()), key=lambda record: record["path"])


def workers(cluster):
    """Return the process of the worker on each node."""
    processes = {}
    for node in cluster.list_all_nodes():
        (raylet,) = node.all_processes[ray_constants.PROCESS_TYPE_RAYLET]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == raylet.process.pid and b"ray::MapWorker" in (process / "cmdline").read_bytes():
                    processes[node.unique_id] = int(process.name)
            except OSError:  # the process has ended
                continue
    return processes


def start(*arguments):
    command = [sys.executable, "-m", "showtell", *map(str, arguments)]
    # A shell starts background processes with SIGINT ignored.
    handle_interrupts = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=handle_interrupts
    )


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


def test_a_killed_worker_does_not_change_the_captions(cluster, photos, local_records, tmp_path):
    out = tmp_path / "out"
    job = start(
        "ray", "caption", photos, "--address", cluster.address, "-o", out, "--format", "jsonl",
        "--shard-size", BATCH_SIZE,
    )  # fmt: skip
    wait_for(lambda: len(workers(cluster)) == 2)
    victim = max(workers(cluster).items())[1]
    wait_for(lambda: [*out.glob("captions/*.jsonl")])
    os.kill(victim, signal.SIGKILL)
    assert len([*out.glob("captions/*.jsonl")]) < 4, "the worker was killed too late"
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 1, errors
    assert (
        "96 images captioned" in errors and "warning: 1 image could not be read" in errors and "Traceback" not in errors
    )
    assert [path.name for path in sorted(out.glob("captions/*"))] == [f"{n:05}-of-00007.jsonl" for n in range(7)]
    assert read_lines([*out.glob("captions/*"), *out.glob("errors/*")]) == local_records

    # Running the job again restores a missing shard and leaves the others alone.
    lost, *kept = sorted(out.glob("captions/*"))
    content, times = lost.read_bytes(), [path.stat().st_mtime_ns for path in kept]
    lost.unlink()
    again = start(
        "ray", "caption", photos, "--address", cluster.address, "-o", out, "--format", "jsonl",
        "--shard-size", BATCH_SIZE,
    )  # fmt: skip
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 1 and "skipped 6 of 7 shards" in errors
    assert lost.read_bytes() == content and [path.stat().st_mtime_ns for path in kept] == times


def test_ctrl_c_leaves_complete_shards_and_prints_the_command_that_resumes(cluster, photos, tmp_path):
    out = tmp_path / "out"
    job = start("ray", "caption", photos, "--address", cluster.address, "-o", out, "--shard-size", 4)
    wait_for(lambda: [*out.glob("captions/*.parquet")])
    job.send_signal(signal.SIGINT)
    _, errors = job.communicate(timeout=60)
    assert (
        job.returncode == 130 and f"resume with: showtell ray caption {photos}" in errors and "Traceback" not in errors
    )
    done = [*out.glob("captions/*.parquet")]
    assert 0 < len(done) < 25
    assert all(pyarrow.parquet.read_table(file).num_rows in (3, 4) for file in done)


def test_features_equal_those_without_ray_and_can_be_trained_on(cluster, showtell, tmp_path):
    data, out = tmp_path / "shapes", tmp_path / "out"
    showtell("tutorial-data", data, "--images", 20)
    (data / "images" / "0007.png").write_bytes(b"no image")
    showtell("prepare", "--captions", data, "-o", tmp_path / "captions.h5", "--min-count", 1)
    showtell("extract", data, "-o", tmp_path / "local.npy", status=1)
    ray = ["ray", "extract", data, "-o", out, "--address", cluster.address, "--shard-size", 8]
    assert "19 images encoded" in showtell(*ray, status=1).stderr
    local, shards = Features.open(tmp_path / "local.npy"), Features.open(out / "features")
    assert shards.images == local.images and shards.encoder == local.encoder and shards.array.shape == local.array.shape
    assert np.array_equal(shards.array[np.arange(19)], local.array[np.arange(19)])
    assert [name for name, _ in shards.failed] == ["images/0007.png"]
    (error,) = pyarrow.parquet.read_table(out / "errors").to_pylist()
    assert error["path"] == str(data / "images" / "0007.png") and "not an image" in error["error"]

    train = ["train", "--captions", tmp_path / "captions.h5", "--skip-missing", "--epochs", 1, "--batch-size", 8]
    train += ["--units", 8, "--embedding-size", 8]
    showtell(*train, "-o", tmp_path / "run", "--features", out / "features")
    record = json.loads((tmp_path / "run" / "history.jsonl").read_text())
    assert 0 < record["val_loss"] < 20


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--address", "127.0.0.1:1"], "no Ray cluster answers"),
        (["--cpus", 0], "--cpus must be greater than 0"),
        (["--min-words", 3, "--max-words", 2], "--min-words 3 is larger than --max-words 2"),
    ],
)
def test_user_errors_are_one_line(showtell, arguments, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    errors = showtell("ray", "caption", PHOTOS[0], "-o", "out", *arguments, status=2).stderr
    assert reason in errors and errors.startswith("error: ") and errors.count("\n") == 1


def test_workers_larger_than_any_machine_are_refused(showtell, cluster, tmp_path):
    options = ["--address", cluster.address, "-o", tmp_path / "out", "--cpus", 2]
    errors = showtell("ray", "caption", PHOTOS[0], *options, status=2).stderr
    assert "no machine of the cluster has 2 CPUs; reduce --cpus or --gpus" in errors


def test_a_new_cluster_sends_no_usage_statistics_and_has_no_dashboard():
    program = """
import os
os.environ.pop("RAY_USAGE_STATS_ENABLED", None)
from showtell.ray import require_ray
require_ray("this test")
from ray._common.usage.usage_lib import usage_stats_enabled
from ray._private import ray_constants, worker
from showtell.ray.jobs import WorkerPool, _cluster
with _cluster(WorkerPool("local")) as ray:
    in_worker = ray.get(ray.remote(usage_stats_enabled).remote())
    has_dashboard = ray_constants.PROCESS_TYPE_DASHBOARD in worker._global_node.all_processes
os.write(1, f"{usage_stats_enabled()} {in_worker} {has_dashboard}".encode())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout == "False False False", done.stderr
