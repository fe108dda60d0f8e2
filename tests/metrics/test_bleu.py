import math

import numpy as np
import pytest
from helpers import split_words

from showtell.metrics import bleu


def test_bleu_equals_a_manual_calculation():
    # "a dog runs on grass": 4 of 5 words, 2 of 4 bigrams, 1 of 3 trigrams and 0 of 2 4-grams match.
    corpus, per_image = bleu(split_words("a dog runs on grass"), [split_words("a dog runs in grass")])
    assert corpus == pytest.approx([0.8, math.sqrt(0.8 * 0.5), (0.8 * 0.5 / 3) ** (1 / 3), 0], abs=1e-3)
    assert per_image.tolist() == [corpus.tolist()]


def test_matches_are_clipped_to_the_count_in_one_reference():
    corpus, _ = bleu(split_words("the the the the"), [split_words("the cat", "the dog the")])
    assert corpus[0] == pytest.approx(2 / 4)


def test_captions_shorter_than_the_closest_reference_are_penalised():
    corpus, _ = bleu(split_words("a dog"), [split_words("a dog runs away")])
    assert corpus[:2] == pytest.approx([math.exp(1 - 4 / 2)] * 2)
    tie, _ = bleu(split_words("a dog runs"), [split_words("a dog", "a dog runs fast")])
    assert tie[0] == pytest.approx(1)


def test_corpus_bleu_is_computed_from_summed_counts():
    corpus, per_image = bleu(split_words("a b c d", "x"), [split_words("a b c d"), split_words("y")])
    assert corpus[0] == pytest.approx(4 / 5)
    assert per_image[:, 0] == pytest.approx([1, 0])


def test_bleu_equals_coco_caption(random_set, coco_set):
    scorer = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4)
    expected, expected_per_image = scorer.compute_score(*coco_set, verbose=0)
    corpus, per_image = bleu(*random_set)
    assert corpus == pytest.approx(expected, abs=1e-9)
    assert per_image == pytest.approx(np.transpose(expected_per_image), abs=1e-9)
