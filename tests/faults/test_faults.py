"""The short version of `make faults`: each command is disturbed a few times; training is in test_training.py."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="limits and kill -9 are of POSIX")

from harness import (
    ENVIRONMENT,
    SHOWTELL,
    cases,
    check_restart,
    check_whole,
    fill_disk,
    kill,
    make_data,
    run,
    undisturbed,
)
from serving import kill_servers

from showtell.utils.locks import exclusive_lock


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_data(folder, images=20)
    return folder


def last_line(done):
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(("name", "kills"), [("prepare", 3), ("extract", 2), ("caption --jsonl", 2)])
def test_after_a_kill_or_on_a_full_disk_a_restart_ends_as_if_nothing_had_been(data, tmp_path, name, kills):
    case = cases(data)[name]
    calm = undisturbed(case, tmp_path / "calm")
    for number in range(kills):
        kill(case, tmp_path / f"killed-{number}", calm, number)
        check_restart(case, tmp_path / f"killed-{number}", calm)
    struck = fill_disk(case, tmp_path / "full", calm, 0)
    check_restart(case, tmp_path / "full", calm)
    assert struck, "the disk was not full"


def test_a_server_that_was_killed_is_followed_by_one_that_answers_the_same(data):
    image = sorted((data / "images" / "images").iterdir())[0]
    assert list(kill_servers(image, [1, 2])) == [1, 2]


def test_the_second_of_two_runs_on_one_output_is_refused_at_once(data, tmp_path):
    for name in ("prepare", "extract", "caption --jsonl", "train", "export"):
        case = cases(data)[name]
        case.prepare(tmp_path / name)
        command = case.command(tmp_path / name)
        output = Path(next(word for word in command if word.startswith(str(tmp_path))))
        before = sorted(path.name for path in (tmp_path / name).iterdir())
        with exclusive_lock(output):
            refused = last_line(run(*command))
        assert refused.startswith(f"error: {output}: another showtell is writing it"), refused
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == before


def test_the_lock_of_a_process_that_was_killed_is_free(data, tmp_path):
    case = cases(data)["caption --jsonl"]
    calm = undisturbed(case, tmp_path / "calm")
    case.prepare(tmp_path / "again")
    (tmp_path / "again" / ".a.jsonl.lock").touch()  # what kill -9 leaves of it
    check_restart(case, tmp_path / "again", calm)


def test_two_that_caption_into_one_file_at_the_same_time_leave_each_image_once(data, tmp_path):
    case = cases(data)["caption --jsonl"]
    case.prepare(tmp_path / "both")
    command = [*SHOWTELL, *case.command(tmp_path / "both")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) for _ in range(2)]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert min(process.returncode for process in both) == 0 and "Traceback" not in "".join(said)
    lines = [json.loads(line)["path"] for line in (tmp_path / "both" / "a.jsonl").read_text().splitlines()]
    assert len(set(lines)) == len(lines) == 20


def test_an_output_that_cannot_be_written_is_named_in_one_line(data, tmp_path):
    (tmp_path / "file").write_text("mine")
    read_only = Path("/sys")  # where not even root may
    if os.geteuid():
        (read_only := tmp_path / "read-only").mkdir(mode=0o500)
    for name in ("prepare", "extract", "caption --jsonl", "train", "export"):
        case = cases(data)[name]
        inside = last_line(run(*case.command(tmp_path / "file")))
        assert inside == f"error: {tmp_path / 'file'}: Not a directory"
        refused = last_line(run(*case.command(read_only)))
        assert re.fullmatch(rf"error: {read_only}/\S+: (Permission denied|Read-only file system)", refused)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_standard_output_that_is_full_is_told_in_one_line(data, tmp_path):
    image = sorted((data / "images" / "images").iterdir())[0]
    for arguments in (["caption", image], ["prepare", "-o", tmp_path / "c.h5", "--captions", data / "images"]):
        with open("/dev/full", "w") as full:
            command = [*SHOWTELL, *map(str, arguments)]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        assert last_line(done) == "error: input or output failed: No space left on device"
        assert len(done.stderr.splitlines()) == 1
    check_whole(tmp_path)


def test_prepare_takes_the_vocabulary_of_a_killed_one_for_its_own_and_leaves_another_alone(data, tmp_path):
    command = ["prepare", "-o", tmp_path / "c.h5", "--captions", data / "images"]
    run(*command).check_returncode()
    (tmp_path / "c.h5").unlink()  # as if it had been killed between the two files
    run(*command).check_returncode()
    (tmp_path / "c.h5").unlink()
    (tmp_path / "c_vocab.json").write_text("mine")
    refused = last_line(run(*command))
    assert refused.startswith(f"error: {tmp_path / 'c_vocab.json'}: exists already")
    assert (tmp_path / "c_vocab.json").read_text() == "mine" and not (tmp_path / "c.h5").exists()
