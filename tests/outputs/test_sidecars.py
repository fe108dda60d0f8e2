"""Captions in sidecar files."""

import os

import pytest
from helpers import leave_temporary_file

from showtell.errors import ConfigurationError
from showtell.outputs import Sidecars
from showtell.outputs.sidecars import RECORD_NAME


def test_each_image_gets_a_sidecar_file(tmp_path):
    (tmp_path / "mine.txt").write_text("my own words\n")
    names = ["mine.jpg", "a.jpg", "a.png", "doubtful.jpg", "image.txt"]
    paths = {name: str(tmp_path / name) for name in names}
    sidecars = Sidecars(paths.values())
    assert [sidecars.has(path) for path in paths.values()] == [True, False, False, False, False]
    sidecars.add({"path": paths["mine.jpg"], "caption": "a dog"})
    sidecars.add({"path": paths["a.jpg"], "caption": "a dog"})
    sidecars.add({"path": paths["doubtful.jpg"], "caption": "a dog", "needs_review": True})
    with pytest.raises(ConfigurationError, match=r"its sidecar file 'a.txt' belongs to .*a\.jpg'; rename"):
        sidecars.add({"path": paths["a.png"], "caption": "a cat"})
    with pytest.raises(ConfigurationError, match="rename"):
        sidecars.add({"path": paths["image.txt"], "caption": "a cat"})
    contents = {path.name: path.read_text() for path in tmp_path.iterdir() if path.name != RECORD_NAME}
    assert contents == {"mine.txt": "my own words\n", "a.txt": "a dog\n"}
    reopened = Sidecars(paths.values())
    assert [reopened.has(path) for path in paths.values()] == [True, True, False, False, False]


def write_sidecars(texts, overwrite=False):
    sidecars = Sidecars(texts, overwrite)
    for path, text in texts.items():
        sidecars.add({"path": path, "caption": text})


def test_only_texts_that_showtell_wrote_are_replaced(tmp_path, caplog):
    images = [str(tmp_path / f"{name}.jpg") for name in ("ours", "edited", "same", "theirs", "renamed", "gone")]
    theirs, link = tmp_path / "theirs.txt", tmp_path / "link.txt"
    theirs.write_text("a dog\n")  # the same words as a caption of another image
    link.symlink_to(tmp_path / "elsewhere.txt")
    write_sidecars(dict.fromkeys(images, "a dog"))
    (tmp_path / "edited.txt").write_text("my own words\n")
    (tmp_path / "renamed.txt").rename(tmp_path / "other.txt")
    (tmp_path / "gone.txt").unlink()
    images += [str(tmp_path / name) for name in ("other.jpg", "link.jpg")]

    caplog.clear()
    write_sidecars(dict.fromkeys(images, "a cat"))
    assert not caplog.records and (tmp_path / "gone.txt").read_text() == "a cat\n"
    write_sidecars(dict.fromkeys(images, "a bird"), overwrite=True)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"kept 4 sidecar files that showtell did not write or that were edited, such as {tmp_path / 'edited.txt'}; "
        "delete them to write them again"
    )
    texts = {path.stem: path.read_text() for path in tmp_path.glob("*.txt") if path != link}
    assert texts == {
        **dict.fromkeys(("ours", "same", "renamed", "gone"), "a bird\n"),
        "edited": "my own words\n",
        "theirs": "a dog\n",
        "other": "a dog\n",
    }
    assert link.is_symlink() and not (tmp_path / "elsewhere.txt").exists()


def test_a_damaged_record_keeps_files(tmp_path):
    image = str(tmp_path / "a.jpg")
    write_sidecars({image: "a dog"})
    record = tmp_path / RECORD_NAME
    for damaged in (record.read_bytes()[:-5], b"\xff\n\n", b""):
        record.write_bytes(damaged)
        write_sidecars({image: "a cat"}, overwrite=True)
        assert (tmp_path / "a.txt").read_text() == "a dog\n"


def test_temporary_files_of_a_killed_process_are_removed(tmp_path):
    image = str(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("kept\n")
    leave_temporary_file(tmp_path / "a.txt")
    write_sidecars({image: "a dog"})
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_record_that_is_a_link_or_a_pipe_is_refused(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("export A=1\n")
    for name in ("link", "pipe"):
        (tmp_path / name).mkdir()
    (tmp_path / "link" / RECORD_NAME).symlink_to(victim)
    os.mkfifo(tmp_path / "pipe" / RECORD_NAME)
    for name in ("link", "pipe"):
        with pytest.raises(ConfigurationError, match="not a record of sidecar files, or too large; remove it"):
            Sidecars([str(tmp_path / name / "a.jpg")])
    assert victim.read_text() == "export A=1\n"
