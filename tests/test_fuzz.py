"""The short version of `make fuzz`."""

import fuzz
import numpy as np
import pytest


@pytest.mark.parametrize(
    ("kind", "count"), [("images", 300), ("other_images", 300), ("captions", 300), ("bundles", 300)]
)
def test_damaged_files_give_a_result_or_a_clear_error(kind, count):
    outcome = fuzz.run(kind, count, seed=1)
    assert not outcome.failures
    assert outcome.valid > 0 and outcome.refused > 0 and outcome.valid + outcome.refused == count


def test_exceptions_and_crashes_are_detected():
    outcome = fuzz.run("faulty", 4, seed=0)
    assert (outcome.valid, len(outcome.failures)) == (2, 2)
    assert "ZeroDivisionError" in outcome.failures[0] and "crashes" in outcome.failures[1]


def test_damage_depends_on_the_seed_only():
    content = bytes(range(200))
    assert fuzz.mutate(content, np.random.default_rng(3)) == fuzz.mutate(content, np.random.default_rng(3))
    assert fuzz.mutate(content, np.random.default_rng(3)) != fuzz.mutate(content, np.random.default_rng(4))
