"""The files of a training run, intact and damaged."""

import json

import pytest

from showtell.errors import ConfigurationError
from showtell.recipe import Recipe
from showtell.training.run import DataPaths, Run
from showtell.vocabulary import Vocabulary

EPOCH = {"epoch": 1, "loss": None, "best": True, "val_loss": 2.5, "cider": 0.0}
LINE = json.dumps(EPOCH).encode() + b"\n"


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", Recipe(), DataPaths("c.h5", ("f.npy",)), None, Vocabulary.from_words(["a"]))


def test_the_history_is_read_as_it_was_written(run):
    assert run.read_history() == []
    run.write_history([EPOCH, {**EPOCH, "epoch": 2, "best": False}])
    assert [record["epoch"] for record in run.read_history()] == [1, 2]


@pytest.mark.parametrize(
    "content",
    [
        LINE[:-20],
        LINE + LINE[:9],
        b"\xff\xd8\xff\xe0\0",
        LINE.replace(b"{", b"\xff{"),
        b"[]\n",
        b"null\n",
        b"1\n",
        b"{}\n",
        b"[" * 100_000,
        LINE + b"\n" + LINE,
        LINE + b'{"epoch": 2, "best": true}\n',
        LINE.replace(b"true", b'"yes"'),
        LINE.replace(b"0.0", b'"high"'),
        LINE.replace(b'"epoch": 1', b'"epoch": "1"'),
    ],
)
def test_a_damaged_history_is_reported(run, content):
    path = run.folder / "history.jsonl"
    path.write_bytes(content)
    for read in (run.read_history, lambda: Run.open(run.folder).is_finished):
        with pytest.raises(ConfigurationError) as error:
            read()
        assert str(error.value) == f"{path}: the file is damaged; restore it, or start a new run in another folder"
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["recipe", "sources", "encoder", "vocabulary"])
def test_damaged_settings_are_reported(run, name):
    path = run.folder / "settings.json"
    settings = json.loads(path.read_text())
    damaged = [{key: value for key, value in settings.items() if key != name}]
    damaged += [{**settings, name: value} for value in (1, "a", [1], {"a": 1})]
    for content in (*map(json.dumps, damaged), "[]", "1", "", "[" * 100_000):
        path.write_text(content)
        with pytest.raises(ConfigurationError) as error:
            Run.open(run.folder)
        assert "\n" not in str(error.value)
