"""The examples in docstrings run and print what they say."""

import doctest
from importlib import import_module

import pytest
from helpers import ROOT

SOURCE = ROOT / "src"
MODULES = [
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(SOURCE.rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0


def test_the_main_entry_points_have_examples():
    assert {"showtell.inference.captioner", "showtell.inference.search_options", "showtell.images.preprocess"} <= set(
        MODULES
    )
