"""The short version of `make faults`: each command is disturbed a few times. Training is in the long version only."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="limits and kill -9 need POSIX")

from harness import (
    ENVIRONMENT,
    SHOWTELL,
    cases,
    check_complete,
    check_restart,
    fill_disk,
    kill,
    make_data,
    run,
    run_undisturbed,
)
from serving import kill_servers

from showtell.utils.locks import exclusive_lock


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_data(folder, images=20)
    return folder


def error_line(done):
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(("name", "kills"), [("prepare", 3), ("extract", 2), ("caption --jsonl", 2)])
def test_restart_after_a_fault_gives_the_result_of_an_undisturbed_run(data, tmp_path, name, kills):
    case = cases(data)[name]
    undisturbed = run_undisturbed(case, tmp_path / "undisturbed")
    for number in range(kills):
        kill(case, tmp_path / f"killed-{number}", undisturbed, number)
        check_restart(case, tmp_path / f"killed-{number}", undisturbed)
    struck = fill_disk(case, tmp_path / "full", undisturbed, 0)
    check_restart(case, tmp_path / "full", undisturbed)
    assert struck, "no file reached the size limit"


def test_next_server_after_a_kill_gives_the_same_answers(data):
    image = sorted((data / "images" / "images").iterdir())[0]
    assert list(kill_servers(image, [1, 2])) == [1, 2]


def test_second_command_on_a_locked_output_is_refused(data, tmp_path):
    for name in ("prepare", "extract", "caption --jsonl", "train", "export"):
        case = cases(data)[name]
        case.prepare(tmp_path / name)
        command = case.command(tmp_path / name)
        output = Path(next(argument for argument in command if argument.startswith(str(tmp_path))))
        before = sorted(path.name for path in (tmp_path / name).iterdir())
        with exclusive_lock(output):
            error = error_line(run(*command))
        assert error.startswith(f"error: {output}: another showtell process is writing it"), error
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == before


def test_lock_file_of_a_killed_process_has_no_effect(data, tmp_path):
    case = cases(data)["caption --jsonl"]
    undisturbed = run_undisturbed(case, tmp_path / "undisturbed")
    case.prepare(tmp_path / "again")
    (tmp_path / "again" / ".a.jsonl.lock").touch()
    check_restart(case, tmp_path / "again", undisturbed)


def test_two_commands_with_one_output_write_each_image_once(data, tmp_path):
    case = cases(data)["caption --jsonl"]
    case.prepare(tmp_path / "both")
    command = [*SHOWTELL, *case.command(tmp_path / "both")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) for _ in range(2)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert min(process.returncode for process in processes) == 0 and "Traceback" not in "".join(errors)
    lines = [json.loads(line)["path"] for line in (tmp_path / "both" / "a.jsonl").read_text().splitlines()]
    assert len(set(lines)) == len(lines) == 20


def test_unwritable_output_is_named_in_one_line(data, tmp_path):
    (tmp_path / "file").write_text("mine")
    read_only = Path("/sys")  # not even root can write there
    if os.geteuid():
        (read_only := tmp_path / "read-only").mkdir(mode=0o500)
    for name in ("prepare", "extract", "caption --jsonl", "train", "export"):
        case = cases(data)[name]
        below_file = error_line(run(*case.command(tmp_path / "file")))
        assert below_file == f"error: {tmp_path / 'file'}: Not a directory"
        error = error_line(run(*case.command(read_only)))
        assert re.fullmatch(rf"error: {read_only}/\S+: (Permission denied|Read-only file system)", error)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is missing")
def test_full_standard_output_is_reported_in_one_line(data, tmp_path):
    image = sorted((data / "images" / "images").iterdir())[0]
    for arguments in (["caption", image], ["prepare", "-o", tmp_path / "c.h5", "--captions", data / "images"]):
        with open("/dev/full", "w") as full:
            command = [*SHOWTELL, *map(str, arguments)]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        assert error_line(done) == "error: input or output failed: No space left on device"
        assert len(done.stderr.splitlines()) == 1
    check_complete(tmp_path)


def test_prepare_accepts_the_vocabulary_of_a_killed_prepare_but_no_other(data, tmp_path):
    command = ["prepare", "-o", tmp_path / "c.h5", "--captions", data / "images"]
    run(*command).check_returncode()
    (tmp_path / "c.h5").unlink()  # as if killed between the two files
    run(*command).check_returncode()
    (tmp_path / "c.h5").unlink()
    (tmp_path / "c_vocab.json").write_text("mine")
    error = error_line(run(*command))
    assert re.match(rf"error: {re.escape(str(tmp_path / 'c_vocab.json'))}: (already exists|exists already)", error)
    assert (tmp_path / "c_vocab.json").read_text() == "mine" and not (tmp_path / "c.h5").exists()
