"""Diffs, applied by real programs."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.alt_text.diffs import unified_diff

NAMES = [
    b"page.html",
    b"a b.html",
    b" a .html",
    b"line\nbreak.html",
    b"line\n+++ b/other.html",
    b"return\r.html",
    b"tab\t.html",
    b'quote".html',
    b"back\\slash.html",
    b"\\n.html",
    b"escape\x1b[31m.html",
    b"delete\x7f.html",
    b"caf\xe9.html",
    "café \u2028.html".encode(),
    b"1 2020-01-01 00:00:00.html",
    b"-p0.html",
    b"a/b\n/c.html",
]


def apply(program, name, before, after):
    """Return what a program makes of a file with a name."""
    if shutil.which(program[0]) is None:
        pytest.skip(f"needs {program[0]}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, os.fsdecode(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(before)
        diff = unified_diff(name, before, after)
        subprocess.run(program, cwd=folder, input=diff, check=bool(diff), capture_output=True)
        return path.read_bytes()


GIT, PATCH = ["git", "apply", "-"], ["patch", "--batch", "-p1"]


@pytest.mark.parametrize("program", [GIT, PATCH], ids=["git", "patch"])
@pytest.mark.parametrize("name", NAMES)
def test_programs_find_files_with_strange_names(program, name):
    assert apply(program, name, b"a\nb", b"a\nc") == b"a\nc"


LINES = st.lists(st.sampled_from([b"", b"a", b"b\r", b"\x0c", b"-- a", b"++ b", b"@@ -1 +1 @@", b"\\ No newline"]))


@settings(deadline=None, max_examples=60)
@given(lines=LINES, changes=st.sets(st.integers(0, 40)), is_ended=st.booleans(), program=st.sampled_from([GIT, PATCH]))
def test_programs_apply_changes_of_any_lines(lines, changes, is_ended, program):
    ending = b"\n" if is_ended and lines else b""
    before = b"\n".join(lines) + ending
    changed = (line + b"x" if line and number in changes else line for number, line in enumerate(lines))
    after = b"\n".join(changed) + ending
    assert apply(program, b"page.html", before, after) == after


def test_a_diff_has_the_lines_around_a_change_only():
    before = b"".join(b"%d\n" % number for number in range(1, 100))
    diff = unified_diff(b"page.md", before, before.replace(b"50\n", b"x\n"))
    assert diff == (b"--- a/page.md\n+++ b/page.md\n@@ -47,7 +47,7 @@\n 47\n 48\n 49\n-50\n+x\n 51\n 52\n 53\n")
    assert unified_diff(b"page.md", before, before) == b""
