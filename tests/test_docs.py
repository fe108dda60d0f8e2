"""The documentation says what the program does: its reference is current, and its commands and links exist."""

import re
import shlex
import subprocess
import sys

import pytest
from helpers import ROOT

PAGES = [ROOT / "README.md", ROOT / "src/showtell/pretrained/default/MODEL_CARD.md", *sorted(ROOT.glob("docs/*.md"))]
REFERENCE = ROOT / "docs" / "command-line.md"


def commands(page):
    """The commands of a page's consoles that call showtell, as words."""
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for line in re.findall(r"^\$ (showtell .*)$", block.replace("\\\n", " "), re.MULTILINE):
            yield shlex.split(line, comments=True)


def options():
    """The options of each command, from the reference."""
    sections = re.split(r"^## showtell ", REFERENCE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {
        section.split("\n", 1)[0]: set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", section)) for section in sections
    }


def test_the_reference_of_the_command_line_is_current():
    command = [sys.executable, ROOT / "tools" / "command_line_reference.py"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout == REFERENCE.read_text(encoding="utf-8"), "write it anew with: make docs"


def test_the_reference_has_the_options_of_the_program(showtell):
    known = options()
    assert len(known) == 11 and {"--beam-size", "--json", "--no-recursive"} <= known["caption"]
    for command, names in known.items():
        helped = showtell(command, "--help", environment={"COLUMNS": "300", "NO_COLOR": "1"}).stdout
        shown = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", helped)) - {"--help"}
        assert shown == {name for name in names if name.startswith("--")}, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_the_pages_exist(page):
    known = options()
    for words in commands(page):
        assert words[1] in known, words
        for word in words[2:]:
            if re.match(r"--?[a-z]", word):
                assert word in known[words[1]], words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page):
    text = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))
    for target in re.findall(r"(?<!\\)\[[^\]]*\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
        # The site has nothing but the pages.
        assert page.parent.name != "docs" or ".." not in target, target


def test_the_map_of_the_files_names_each_module_and_nothing_else():
    package = ROOT / "src" / "showtell"
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## The files\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(?:src/showtell/)?((?:\w+/)*\w+\.py)`", section))
    modules = {path.relative_to(package).as_posix() for path in package.rglob("[!_]*.py")}
    assert named == {name for name in modules if not name.startswith("cli/")}
