import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
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
from showtell.errors import ConfigurationError
from showtell.inference.captioner import BATCH_SIZE, Captioner
from showtell.ray.folder import JobFolder
from showtell.ray.inputs import Shard, list_shards
from showtell.ray.work import Captioning, Count

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
    """A folder of 96 photographs in two folders, and one file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(96):
        place = folder / "more" if number % 3 else folder
        place.mkdir(exist_ok=True)
        shutil.copy(PHOTOS[number % len(PHOTOS)], place / f"{number:03}.jpg")
    (folder / "050-broken.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def local_entries(photos, tmp_path_factory):
    """What the local engine says of the photographs, as JSON Lines has it."""
    file = tmp_path_factory.mktemp("local") / "captions.jsonl"
    command = [sys.executable, "-m", "showtell", "caption", str(photos), "--jsonl", str(file)]
    assert subprocess.run(command, check=False, capture_output=True, timeout=120).returncode == 1
    return read_lines([file])


def read_lines(files):
    return sorted((json.loads(line) for file in files for line in file.open()), key=lambda entry: entry["path"])


def workers(cluster):
    """Return the processes that hold a model, by the node that they are on."""
    found = {}
    for node in cluster.list_all_nodes():
        (raylet,) = node.all_processes[ray_constants.PROCESS_TYPE_RAYLET]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == raylet.process.pid and b"ray::MapWorker" in (process / "cmdline").read_bytes():
                    found[node.unique_id] = int(process.name)
            except OSError:  # it has ended meanwhile
                continue
    return found


def start(*arguments):
    command = [sys.executable, "-m", "showtell", *map(str, arguments)]
    # In the background of a shell Ctrl-C would be ignored.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not come"
        time.sleep(0.02)


def test_a_worker_is_killed_and_the_captions_are_those_of_the_local_engine(cluster, photos, local_entries, tmp_path):
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
    _, told = job.communicate(timeout=120)
    assert job.returncode == 1, told
    assert "96 images captioned" in told and "warning: 1 image could not be read" in told and "Traceback" not in told
    assert [path.name for path in sorted(out.glob("captions/*"))] == [f"{n:05}-of-00007.jsonl" for n in range(7)]
    assert read_lines([*out.glob("captions/*"), *out.glob("errors/*")]) == local_entries

    # Done again with one shard missing, it makes that one and no other.
    lost, *kept = sorted(out.glob("captions/*"))
    content, times = lost.read_bytes(), [path.stat().st_mtime_ns for path in kept]
    lost.unlink()
    again = start(
        "ray", "caption", photos, "--address", cluster.address, "-o", out, "--format", "jsonl",
        "--shard-size", BATCH_SIZE,
    )  # fmt: skip
    _, told = again.communicate(timeout=120)
    assert again.returncode == 1 and "skipped 6 of 7 shards" in told
    assert lost.read_bytes() == content and [path.stat().st_mtime_ns for path in kept] == times


def test_ctrl_c_leaves_whole_shards_and_the_command_that_goes_on(cluster, photos, tmp_path):
    out = tmp_path / "out"
    job = start("ray", "caption", photos, "--address", cluster.address, "-o", out, "--shard-size", 4)
    wait_for(lambda: [*out.glob("captions/*.parquet")])
    job.send_signal(signal.SIGINT)
    _, told = job.communicate(timeout=60)
    assert job.returncode == 130 and f"resume with: showtell ray caption {photos}" in told and "Traceback" not in told
    done = [*out.glob("captions/*.parquet")]
    assert 0 < len(done) < 25
    assert all(pyarrow.parquet.read_table(file).num_rows in (3, 4) for file in done)


def test_features_equal_those_of_the_local_engine_and_can_be_trained_on(cluster, showtell, tmp_path):
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


@pytest.fixture(scope="module")
def captioning():
    captioner = Captioner.load()
    return Captioning(captioner.bundles, captioner.search_options, None, "parquet", BATCH_SIZE)


@pytest.fixture(scope="module")
def captions_of_photos(captioning):
    """The caption of each example photograph."""
    captioner = Captioner(captioning.bundles)
    return [(result.captions[0].text, round(result.captions[0].confidence, 3)) for result in captioner.caption(PHOTOS)]


def results(captioning, shards, folder):
    """Do shards here, without Ray; return the captions and the errors."""
    for number, shard in enumerate(shards):
        captioning(shard, str(number), JobFolder(str(folder)))
    return [
        [row for file in sorted(folder.glob(f"{kind}/*")) for row in pyarrow.parquet.read_table(file).to_pylist()]
        for kind in ("captions", "errors")
    ]


def tar_of(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_a_tar_is_a_shard_and_what_is_damaged_is_among_the_errors(captioning, captions_of_photos, tmp_path):
    members = [(f"{number}.{kind}", photo.read_bytes() if kind == "jpg" else b"{}")
               for number, photo in enumerate(PHOTOS) for kind in ("jpg", "json")]  # fmt: skip
    tar_of(tmp_path / "a.tar", [*members[:6], ("bad.png", b"no image")])
    tar_of(tmp_path / "b.tar", members[6:])
    cut = tmp_path / "c.tar"
    tar_of(cut, members)
    cut.write_bytes(cut.read_bytes()[:5000])
    shards = list_shards([str(tmp_path)], 1000)
    assert [shard.urls for shard in shards] == [(str(tmp_path / f"{name}.tar"),) for name in "abc"]
    assert shards[0].name_of(f"{tmp_path}/a.tar/0.jpg") == "0.jpg"
    captions, errors = results(captioning, shards, tmp_path / "out")
    place = [f"{tmp_path}/a.tar/{n}.jpg" for n in range(3)] + [f"{tmp_path}/b.tar/{n}.jpg" for n in range(3, 6)]
    assert [row["path"] for row in captions] == place
    assert [(row["caption"], row["confidence"]) for row in captions] == captions_of_photos
    bad, cut_off = errors
    assert bad == {
        "path": f"{tmp_path}/a.tar/bad.png",
        "error": f"'{tmp_path}/a.tar/bad.png': not an image in a format that can be read here",
    }
    assert cut_off["path"] == str(cut) and "damaged" in cut_off["error"]


def test_parquet_with_bytes_is_read_by_row_groups(captioning, captions_of_photos, tmp_path):
    rows = [{"url": f"https://example.org/{photo.name}", "image": photo.read_bytes()} for photo in PHOTOS]
    file = tmp_path / "images.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([*rows, {"url": "x", "image": None}]), file, row_group_size=4)
    shards = list_shards([file.as_uri()], 1000)
    assert [shard.row_group for shard in shards] == [0, 1]
    captions, errors = results(captioning, shards, tmp_path / "out")
    assert [row["path"] for row in captions] == [row["url"] for row in rows]
    assert [row["caption"] for row in captions] == [caption for caption, _ in captions_of_photos]
    assert [row["path"] for row in errors] == ["x"]


def test_parquet_as_hugging_face_writes_it_and_rows_without_names(tmp_path):
    nameless = [{"image": {"bytes": b"a", "path": None}}, {"image": {"bytes": b"b", "path": "b.jpg"}}] * 2
    file = tmp_path / "images.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(nameless), file, row_group_size=2)
    second = list_shards([str(file)], 1000)[1]
    assert list(second.images()) == [(f"{file}/2", b"a"), ("b.jpg", b"b")]
    assert second.name_of(f"{file}/2") == "2"


def test_parquet_with_addresses_reads_what_is_there(tmp_path):
    addresses = [PHOTOS[0].as_uri(), (tmp_path / "absent.jpg").as_uri()]
    file = tmp_path / "list.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"url": addresses, "width": [1, 2]}), file)
    (first, content), (second, error) = list_shards([str(file)], 1000)[0].images()
    assert [first, second] == addresses
    assert content == PHOTOS[0].read_bytes() and "no such file" in str(error)
    pyarrow.parquet.write_table(pyarrow.table({"width": [1, 2]}), file)
    with pytest.raises(ConfigurationError, match=r"no column of image bytes and none named path.*columns: width"):
        list_shards([str(file)], 1000)
    file.write_bytes(b"no Parquet")
    with pytest.raises(ConfigurationError, match="not a readable Parquet file"):
        list_shards([str(file)], 1000)


def test_a_folder_has_the_same_shards_here_and_at_an_address(photos):
    here, there = list_shards([str(photos)], 40), list_shards([photos.as_uri()], 40)
    assert [len(shard.urls) for shard in here] == [40, 40, 17]
    names = [{Path(url.removeprefix("file://")) for shard in shards for url in shard.urls} for shards in (here, there)]
    assert names[0] == names[1]
    assert there[0].urls[0].startswith("file:///")
    assert len(list_shards([str(photos)], 1000, recursive=False)[0].urls) == 33
    assert len(list_shards([photos.as_uri()], 1000, recursive=False)[0].urls) == 33


def test_results_may_be_written_to_an_address_and_hold_the_paths_that_were_given(captioning, captions_of_photos):
    folder = JobFolder("memory://bucket/out")
    shard = Shard("files", tuple(photo.as_uri() for photo in PHOTOS))
    assert captioning(shard, "00000-of-00001", folder) == Count(len(PHOTOS), 0)
    assert folder.files("captions", ".parquet") == {"00000-of-00001"} and not folder.files("errors", "")
    import fsspec

    with fsspec.open("memory://bucket/out/captions/00000-of-00001.parquet", "rb") as file:
        rows = pyarrow.parquet.read_table(file).to_pylist()
    assert [row["path"] for row in rows] == list(shard.urls)
    assert [row["caption"] for row in rows] == [caption for caption, _ in captions_of_photos]


def test_a_folder_is_for_one_job(tmp_path):
    folder = JobFolder(str(tmp_path / "out"))
    folder.claim({"work": "captions", "search": {"suppress_tokens": (1,)}})
    folder.claim({"work": "captions", "search": {"suppress_tokens": (1,)}})
    with pytest.raises(ConfigurationError, match="another job, with a different search"):
        folder.claim({"work": "captions", "search": {"suppress_tokens": ()}})
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigurationError, match="folder is not empty"):
        JobFolder(str(tmp_path)).claim({})


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--address", "127.0.0.1:1"], "no Ray cluster answers"),
        (["--cpus", 0], "--cpus must be more than 0"),
        (["--min-words", 3, "--max-words", 2], "--min-words 3 is larger than --max-words 2"),
    ],
)
def test_mistakes_are_one_line(showtell, arguments, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    errors = showtell("ray", "caption", PHOTOS[0], "-o", "out", *arguments, status=2).stderr
    assert reason in errors and errors.startswith("error: ") and errors.count("\n") == 1


def test_workers_larger_than_any_machine_are_refused(showtell, cluster, tmp_path):
    options = ["--address", cluster.address, "-o", tmp_path / "out", "--cpus", 2]
    errors = showtell("ray", "caption", PHOTOS[0], *options, status=2).stderr
    assert "no machine of the cluster has 2 CPUs; reduce --cpus or --gpus" in errors


def test_usage_statistics_are_off_for_the_program_and_its_workers():
    program = """
import os
os.environ.pop("RAY_USAGE_STATS_ENABLED", None)
from showtell.ray import require_ray
require_ray("this test")
import ray
from ray._common.usage import usage_lib
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
worker = ray.remote(usage_lib.usage_stats_enabled)
print(usage_lib.usage_stats_enabled(), ray.get(worker.remote()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout == "False False\n", done.stderr
