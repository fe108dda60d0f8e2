"""Atomic writing, and other helpers for files."""

import errno

import pytest

from showtell.errors import ConfigurationError
from showtell.utils.files import atomic_write, parse_path_list, require_empty_dir, temporary_files, with_filename


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
    require_empty_dir(tmp_path, "the report")
    (tmp_path / "mine.txt").touch()
    for path in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(ConfigurationError, match="not an empty folder; choose a new folder for the report"):
            require_empty_dir(path, "the report")
