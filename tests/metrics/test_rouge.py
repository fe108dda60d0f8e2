import pytest
from helpers import split_words

from showtell.metrics import rouge_l


def test_rouge_l_equals_a_manual_calculation():
    # The longest common subsequences are "a dog runs" (precision 3/3, recall 3/4) and "a runs" (2/3, 2/2).
    squared = 1.2**2
    one = rouge_l(split_words("a dog runs"), [split_words("a dog often runs")])
    assert one == pytest.approx([(1 + squared) * 0.75 / (0.75 + squared)])
    assert rouge_l(split_words("a dog runs"), [split_words("a dog often runs", "a runs")]) == pytest.approx([1])
    assert rouge_l([[], ["cat"]], [split_words("a dog"), split_words("a dog", "")]).tolist() == [0, 0]


def test_rouge_l_equals_coco_caption(random_set, coco_set):
    expected, expected_per_image = pytest.importorskip("pycocoevalcap.rouge.rouge").Rouge().compute_score(*coco_set)
    scores = rouge_l(*random_set)
    assert scores == pytest.approx(expected_per_image, abs=1e-9)
    assert scores.mean() == pytest.approx(expected, abs=1e-9)
