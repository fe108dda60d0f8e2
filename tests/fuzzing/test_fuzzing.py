"""The short version of `make fuzz`."""

import os
import sys

import numpy as np
import pytest

if sys.platform != "linux":
    pytest.skip("the runner reads the memory from /proc", allow_module_level=True)

import runner
from byte_mutator import mutate
from image_bombs import BOMBS, SLOW


@pytest.mark.parametrize("kind", sorted(runner.KINDS.keys() - {"image-bombs"}))
def test_damaged_files_give_a_result_or_a_clear_error(kind, tmp_path):
    results = runner.run(kind, range(100), seed=1, failures=tmp_path)
    assert not [result for result in results if result.is_failure]
    verdicts = {result.verdict for result in results}
    assert "valid" in verdicts and ("refused" in verdicts or kind == "pages")  # most pages are valid
    assert [result.number for result in results] == list(range(100))


def test_hostile_images_have_a_bounded_cost(tmp_path):
    quick = {number: name for number, name in enumerate(BOMBS) if name not in SLOW}
    results = runner.run("image-bombs", list(quick), seed=0, failures=tmp_path)
    assert len(results) == len(quick) >= 60
    assert {quick[result.number]: result.verdict for result in results if result.is_failure} == {}


def test_programs_in_images_are_not_started(tmp_path, monkeypatch):
    ghostscript = tmp_path / "bin" / "gs"
    ghostscript.parent.mkdir()
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(ghostscript.parent), prepend=os.pathsep)
    number = list(BOMBS).index("iptc-with-eps")
    (result,) = runner.run("image-bombs", range(number, number + 1), seed=0, failures=tmp_path / "failures")
    assert result.verdict == "refused"
    assert not (tmp_path / "started").exists()


def test_all_failures_are_detected_and_their_files_are_kept(tmp_path):
    results = runner.run("faulty", range(8), seed=0, failures=tmp_path)
    verdicts = ["valid", "refused", "costs", "costs", "ZeroDivisionError", "crashes", "hangs", "valid"]
    assert all(result.verdict.startswith(verdict) for result, verdict in zip(results, verdicts, strict=True)), results
    assert results[2].seconds > 0.5 and results[3].megabytes > 90
    kept = {path.name: (path / "file").read_text() for path in tmp_path.iterdir()}
    assert kept == {f"faulty-0-{number}": str(number) for number in range(2, 7)}
    assert runner.row("faulty", results).startswith("| faulty | 8 | 2 | 1 | 5 |")


def test_damage_depends_on_the_seed_only():
    content = bytes(range(100))
    assert mutate(content, np.random.default_rng(3)) == mutate(content, np.random.default_rng(3))
    assert mutate(content, np.random.default_rng(3)) != mutate(content, np.random.default_rng(4))
