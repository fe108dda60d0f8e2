"""Atomic writing, and other helpers for files."""

import errno
import os
import time

import pytest
from helpers import leave_temporary_file

from showtell.errors import ConfigurationError
from showtell.utils.files import (
    _machine,
    atomic_write,
    parse_path_list,
    remove_abandoned_files,
    require_empty_dir,
    temporary_files,
    with_filename,
)


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "a.json"
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        assert not path.exists() and list(temporary_files(path)) == [temporary]
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
def test_temporary_files_of_unusual_names_are_found(tmp_path, name):
    with atomic_write(tmp_path / name) as temporary:
        temporary.touch()
        assert list(temporary_files(tmp_path / name)) == [temporary]
    assert (tmp_path / name).exists()


def test_temporary_files_of_killed_processes_are_removed_by_the_next_writer(tmp_path):
    leave_temporary_file(tmp_path / "other.txt")
    (mine := tmp_path / ".a.0123abcd.1.tmp.txt").touch()  # not a name that atomic_write gives
    elsewhere = tmp_path / ".a.0123abcd.999999999-00000000.tmp.txt"  # of another machine
    elsewhere.touch()
    running = tmp_path / f".a.0123abcd.{os.getppid()}-{_machine()}.tmp.txt"
    running.touch()
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("a")
    assert set(tmp_path.iterdir()) == {tmp_path / "a.txt", mine, elsewhere, running}


def test_a_temporary_file_of_an_earlier_process_with_the_same_number_is_removed(tmp_path):
    for age in (0, 3600):
        path = tmp_path / f".a.{age:08x}.{os.getpid()}-{_machine()}.tmp"
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    remove_abandoned_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f".a.00000000.{os.getpid()}-{_machine()}.tmp"]


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
