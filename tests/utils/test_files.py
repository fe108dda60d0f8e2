"""Atomic writing, and other helpers for files."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import leave_temporary_file

from showtell.errors import ConfigurationError
from showtell.utils.files import (
    atomic_write,
    parse_path_list,
    remove_abandoned_files,
    require_empty_dir,
    with_filename,
)


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "a.json"
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        assert not path.exists() and list(path.parent.glob(".*.json")) == [temporary]
        assert temporary.name.startswith(".") and temporary.suffix == ".json"
        temporary.write_text("whole")
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_can_be_written_atomically(tmp_path):
    with atomic_write(tmp_path / "bundle") as temporary:
        temporary.mkdir()
        (temporary / "a").write_text("a")
    assert (tmp_path / "bundle" / "a").read_text() == "a"


@pytest.mark.parametrize("name", [f"{'n' * 250}.json", "[a]*.json", "ä" * 120 + ".npy"])
def test_files_of_unusual_names_are_written_and_abandoned_ones_are_removed(tmp_path, name):
    leave_temporary_file(tmp_path / name)
    with atomic_write(tmp_path / name) as temporary:
        temporary.touch()
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_temporary_files_of_killed_processes_are_removed_by_the_next_writer(tmp_path):
    leave_temporary_file(tmp_path / "other.txt")
    (mine := tmp_path / ".a.0123abcd.1.tmp.txt").touch()  # not a name that atomic_write gives
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("a")
    assert set(tmp_path.iterdir()) == {tmp_path / "a.txt", mine}


def test_a_folder_that_a_killed_process_was_writing_is_removed(tmp_path):
    leave_temporary_file(tmp_path / "bundle")
    (temporary,) = tmp_path.glob(".*.tmp")
    temporary.unlink()
    temporary.mkdir()
    (temporary / "part").touch()
    remove_abandoned_files(tmp_path)
    assert not list(tmp_path.iterdir())


WRITE_SLOWLY = """
import sys
from showtell.utils.files import atomic_write

with atomic_write(sys.argv[1]) as temporary:
    temporary.write_text("slow")
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("prefix", [[], ["unshare", "--pid", "--fork", "--map-root-user"]])
def test_a_file_in_use_stays_whichever_process_writes_it(tmp_path, prefix):
    """In a container, the process ID and the host name do not identify a process."""
    if prefix and not shutil.which(prefix[0]):
        pytest.skip("no PID namespaces")
    command = [*prefix, sys.executable, "-c", WRITE_SLOWLY, str(tmp_path / "a.txt")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if process.stdout.readline() != b"writing\n":
        pytest.skip("no PID namespaces")
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))  # the age does not matter: clocks may differ, and a process may be slow
    remove_abandoned_files(tmp_path)
    with atomic_write(tmp_path / "b.txt") as temporary:
        temporary.touch()
        remove_abandoned_files(tmp_path)
    process.communicate()
    assert process.returncode == 0 and (tmp_path / "a.txt").read_text() == "slow"
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "b.txt"}


def test_writers_and_cleaners_in_many_threads_do_not_disturb_each_other(tmp_path):
    def write(number):
        with atomic_write(tmp_path / f"{number % 5}.txt") as temporary:
            temporary.write_text("complete")
            remove_abandoned_files(tmp_path)
            assert temporary.read_text() == "complete"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(300)))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["complete"] * 5


def test_without_locks_files_are_written_and_no_file_of_another_process_is_removed(tmp_path, monkeypatch):
    def fail(descriptor, operation):
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", fail)
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("a")
        remove_abandoned_files(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]


def test_a_folder_is_listed_once_no_matter_how_many_files_are_written(tmp_path, monkeypatch):
    listed = []
    monkeypatch.setattr(os, "scandir", lambda path, original=os.scandir: listed.append(path) or original(path))
    for number in range(50):
        with atomic_write(tmp_path / f"{number}.txt") as temporary:
            temporary.touch()
    assert listed == [tmp_path]


def test_errors_without_a_file_name_get_one(tmp_path):
    with pytest.raises(OSError) as error, with_filename(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(tmp_path / "a")


def test_path_lists_are_separated_by_lines_or_nul():
    assert parse_path_list(b"a b\nc\r\n\n") == ["a b", "c"]
    assert parse_path_list(b"a\nb\0c\0") == ["a\nb", "c"]
    assert parse_path_list(b"") == []


def test_a_folder_with_content_is_refused(tmp_path):
    require_empty_dir(tmp_path / "new", "the report")
    leave_temporary_file(tmp_path / "scores.json")
    require_empty_dir(tmp_path, "the report")
    (tmp_path / "mine.txt").touch()
    for path in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(ConfigurationError, match="not an empty folder; choose a new folder for the report"):
            require_empty_dir(path, "the report")
