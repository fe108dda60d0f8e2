"""Some hundreds of the damaged files that `make fuzz` tries by the ten thousand."""

import fuzz
import numpy as np
import pytest


@pytest.mark.parametrize(
    ("kind", "count"), [("images", 300), ("other_images", 300), ("captions", 300), ("bundles", 300)]
)
def test_damaged_files_give_a_result_or_a_clear_error(kind, count):
    found = fuzz.run(kind, count, seed=1)
    assert not found.wrong
    assert found.good > 0 and found.refused > 0 and found.good + found.refused == count


def test_a_crash_and_a_wrong_error_would_be_noticed():
    found = fuzz.run("mistakes", 4, seed=0)
    assert (found.good, len(found.wrong)) == (2, 2)
    assert "ZeroDivisionError" in found.wrong[0] and "crashes" in found.wrong[1]


def test_damage_depends_on_the_seed_alone():
    content = bytes(range(200))
    assert fuzz.mutated(content, np.random.default_rng(3)) == fuzz.mutated(content, np.random.default_rng(3))
    assert fuzz.mutated(content, np.random.default_rng(3)) != fuzz.mutated(content, np.random.default_rng(4))
