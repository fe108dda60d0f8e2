import math

import pytest
from helpers import split_words
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.errors import ShowtellError
from showtell.metrics import CiderD, DocumentFrequencies


def test_cider_d_equals_a_manual_calculation():
    # "a" is in both images and has no weight. "dog" and "a dog" match. There are no longer n-grams: 10 * (1 + 1) / 4.
    metric = CiderD([split_words("a dog"), split_words("a cat")])
    assert metric.score(split_words("a dog", "a dog")) == pytest.approx([5, 0])


def test_counts_are_clipped_and_length_is_penalised():
    references = [split_words("dog"), split_words("cat")]
    candidates = split_words("dog dog", "cat")
    # Weights 2w and w: min(2w, w) * w / (2w * w) = 1/2. One more bigram. Four n-gram lengths, times 10.
    assert CiderD(references).score(candidates) == pytest.approx([10 / 4 * 0.5 * math.exp(-1 / 72), 2.5])


def test_a_candidate_equal_to_its_only_reference_scores_ten():
    captions = split_words("a dog runs on grass", "two cats sit here now", "the sea is very blue")
    assert CiderD([[caption] for caption in captions]).score(captions) == pytest.approx([10] * 3)


def test_cider_d_equals_coco_caption(random_set, coco_set):
    scorer = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
    expected, expected_per_image = scorer.compute_score(*coco_set)
    candidates, references = random_set
    scores = CiderD(references).score(candidates)
    assert scores == pytest.approx(expected_per_image, abs=1e-9)
    assert scores.mean() == pytest.approx(expected, abs=1e-9)


def test_several_captions_of_an_image_are_scored_independently(random_set):
    candidates, references = random_set
    metric = CiderD(references)
    samples = [candidates[5], candidates[10], candidates[6], candidates[10]]
    images = [5, 10, 5, 10]
    scores = metric.score(samples, images)
    separate = [metric.score([sample], [image])[0] for sample, image in zip(samples, images, strict=True)]
    assert scores == pytest.approx(separate)
    assert scores[[1, 3]] == pytest.approx([metric.score(candidates)[10]] * 2)
    assert metric.score([], []).shape == (0,)


@pytest.mark.parametrize("images", [None, [0], [0, 60], [-1, 0]])
def test_captions_that_do_not_match_the_images_are_rejected(random_set, images):
    with pytest.raises(ShowtellError, match="images"):
        CiderD(random_set[1]).score(split_words("a dog", "a cat"), images)


def test_an_image_without_references_is_rejected():
    with pytest.raises(ShowtellError, match="image 1 has no references"):
        CiderD([split_words("a dog"), []])


def test_document_frequencies_count_images_instead_of_captions():
    frequencies = DocumentFrequencies.from_references(
        [split_words("a dog", "a dog a dog"), split_words("a cat"), split_words("dog")]
    )
    assert frequencies.images == 3
    assert frequencies.counts == {"a": 2, "dog": 2}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.lists(st.sampled_from("abc"), max_size=6), min_size=1, max_size=3), min_size=1, max_size=5))
def test_document_frequencies_equal_a_simple_count(references):
    count = {}
    for captions in references:
        ngrams = {
            " ".join(words[start : start + order])
            for words in captions
            for order in (1, 2, 3, 4)
            for start in range(len(words) - order + 1)
        }
        for ngram in ngrams:
            count[ngram] = count.get(ngram, 0) + 1
    expected = {ngram: images for ngram, images in count.items() if images > 1}
    assert DocumentFrequencies.from_references(references).counts == expected


def test_a_subset_with_the_frequencies_of_the_whole_set_gets_the_same_scores(random_set):
    candidates, references = random_set
    frequencies = DocumentFrequencies.from_json(DocumentFrequencies.from_references(references).to_json())
    together = CiderD(references).score(candidates)
    assert together[10] > 1
    assert CiderD(references[10:12], frequencies).score(candidates[10:12]) == pytest.approx(together[10:12])


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"images": 2}', '{"images": 0, "counts": {}}', '{"images": "2", "counts": {}}']
    + [f'{{"images": 2, "counts": {counts}}}' for counts in ("[1]", '{"a": 3}', '{"a": "1"}', '{"": 1}', '{"a": 1.5}')]
    + [f'{{"images": {images}, "counts": {{}}}}' for images in (10**30, 2.5, "true", "NaN", "[]")],
)
def test_invalid_json_is_rejected_in_one_line(content):
    with pytest.raises(ShowtellError, match="invalid document frequencies") as error:
        DocumentFrequencies.from_json(content)
    assert "\n" not in str(error.value)


def test_the_most_common_ngrams_are_kept():
    frequencies = DocumentFrequencies(9, {"a": 9, "dog": 5, "a dog": 5, "red": 3, "red dog": 2})
    assert frequencies.most_common(5).counts == frequencies.counts
    assert frequencies.most_common(4).counts == {"a": 9, "dog": 5, "a dog": 5, "red": 3}
    assert frequencies.most_common(2).counts == {"a": 9}  # two n-grams share the count 5, so both are dropped
    assert frequencies.most_common(0).counts == {}
    assert frequencies.most_common(0).images == 9
