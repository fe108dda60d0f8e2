"""Captions in sidecar files."""

import pytest

from showtell.errors import ConfigurationError
from showtell.outputs import Sidecars


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
    contents = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert contents == {"mine.txt": "my own words\n", "a.txt": "a dog\n"}
    reopened = Sidecars(paths.values())
    assert [reopened.has(path) for path in paths.values()] == [True, True, False, False, False]


def test_existing_sidecar_files_are_replaced_on_request_only(tmp_path):
    (tmp_path / "mine.txt").write_text("my own words\n")
    image = str(tmp_path / "mine.jpg")
    sidecars = Sidecars([image], overwrite=True)
    assert not sidecars.has(image)
    sidecars.add({"path": image, "caption": "a dog"})
    assert (tmp_path / "mine.txt").read_text() == "a dog\n"
