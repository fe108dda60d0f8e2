"""The documentation is current: commands, options, links and listed modules exist."""

import doctest
import re
import shlex
import subprocess
import sys
from importlib.metadata import version

import pytest
from helpers import ROOT

import showtell as showtell_package

PAGES = [ROOT / "README.md", ROOT / "src/showtell/pretrained/default/MODEL_CARD.md", *sorted(ROOT.glob("docs/*.md"))]
REFERENCE = ROOT / "docs" / "command-line.md"
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z0-9-]*")
TYPER = tuple(map(int, version("typer").split(".")[:2]))


def commands(page):
    """Yield the showtell commands in the console blocks of a page, split into words."""
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for line in re.findall(r"^\$ (?:.*\| )?(showtell .*)$", block.replace("\\\n", " "), re.MULTILINE):
            yield shlex.split(line, comments=True)


def documented_options():
    """Return the options of each command in the reference."""
    parts = re.split(r"^#+ `showtell ?(.*)`\n", REFERENCE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        command: {name for line in re.findall(r"^\* `(-.*?)[`<]", text, re.MULTILINE) for name in OPTION.findall(line)}
        for command, text in zip(parts[1::2], parts[2::2], strict=True)
    }


@pytest.mark.skipif(TYPER < (0, 29), reason="older versions of Typer format the reference differently")
def test_the_command_line_reference_is_current():
    command = [sys.executable, "-m", "typer", "showtell.cli", "utils", "docs", "--name", "showtell"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == REFERENCE.read_text(encoding="utf-8").strip(), "update it with: make reference"


def test_the_reference_lists_commands_and_options():
    options = documented_options()
    assert {"", "caption", "alt-text", "train", "ray", "ray caption"} <= options.keys()
    assert {"--beam-size", "--json", "--no-recursive"} <= options["caption"]
    assert {"--output", "-o", "--workers"} <= options["ray caption"]


@pytest.mark.parametrize("page", [page for page in PAGES if page != REFERENCE], ids=lambda page: page.name)
def test_commands_on_the_pages_exist(page):
    known = documented_options()
    for words in commands(page):
        length = 3 if words[1] == "ray" else 2
        command = " ".join(words[1:length])
        assert command in known, words
        for word in words[length:]:
            if re.match(r"--?[a-z]", word):
                assert word in known[command], words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_are_valid(page):
    text = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))
    for target in re.findall(r"(?<!\\)\[[^\]]*\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
        # The site has nothing but the pages.
        assert page.parent.name != "docs" or ".." not in target, target


def test_architecture_page_lists_every_folder_and_module():
    package = ROOT / "src" / "showtell"
    section = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## Folders\n")[2]
    table = re.search(r"^\| folder .*?\n\n", section, re.MULTILINE | re.DOTALL)
    listed = set(re.findall(r"`(\w+(?:/|\.py))`", table.group()))
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert listed == folders | {"pretrained/"} | {path.name for path in package.glob("*.py")}


def test_api_page_documents_every_public_name():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    documented = re.findall(r"^::: showtell\.(\w+)$", page, re.MULTILINE)
    assert sorted(documented) == sorted(set(showtell_package.__all__) - {"__version__"})


def test_python_example_of_readme_prints_what_it_shows(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("```", "\n")
    result = doctest.DocTestRunner().run(doctest.DocTestParser().get_doctest(text, {}, "README.md", None, 0))
    assert result.attempted and not result.failed
