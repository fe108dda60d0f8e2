import json
import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.errors import ShowtellError
from showtell.metrics.scores import CiderD, DocumentFrequencies, PlainCider, bleu, rouge_l, score_captions, tokenize

PTB = json.loads((Path(__file__).with_name("ptb_tokens.json")).read_text(encoding="utf-8"))


def split(*captions):
    return [caption.split() for caption in captions]


@pytest.fixture(scope="module")
def random_set():
    """Sixty images whose captions share words and n-grams to all degrees; some candidates are short or empty."""
    generator = random.Random(7)
    [words] = split("a a a the on dog cat sits runs red big and of grass sea")

    def caption():
        return generator.choices(words, k=generator.randint(1, 12))

    candidates = [[], *split("dog", "dog dog", "unheard of unheard of"), *(caption() for _ in range(56))]
    references = [[caption() for _ in range(generator.randint(1, 5))] for _ in candidates]
    references[10][0] = candidates[10]
    return candidates, references


def as_coco(candidates, references):
    """The two dictionaries of pycocoevalcap: references first, words joined by blanks."""
    return (
        {index: [" ".join(caption) for caption in captions] for index, captions in enumerate(references)},
        {index: [" ".join(caption)] for index, caption in enumerate(candidates)},
    )


@pytest.mark.parametrize("example", PTB, ids=range(len(PTB)))
def test_tokens_are_those_of_the_stanford_tokeniser(example):
    assert tokenize(example["caption"]) == example["tokens"]


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("犬が草の上を走る。", "犬 が 草 の 上 を 走 る 。"),
        ("一只红色的圆，在 T恤 上", "一 只 红 色 的 圆 ， 在 t 恤 上"),  # noqa: RUF001
        ("หมาวิ่ง", "ห ม า ว ิ ่ ง"),
        ("دائرة حمراء", "دائرة حمراء"),
        ("빨간 원", "빨간 원"),
    ],
)
def test_characters_of_scripts_without_blanks_are_tokens(caption, tokens):
    assert tokenize(caption) == tokens.split()


@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")
def test_the_stored_tokens_are_what_java_gives():
    module = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer")
    captions = {index: [{"caption": example["caption"]}] for index, example in enumerate(PTB)}
    tokenized = module.PTBTokenizer().tokenize(captions)
    assert [tokenized[index][0].split() for index in range(len(PTB))] == [example["tokens"] for example in PTB]


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=40) | st.text(alphabet="aZé1½.,-'/&!? <>()\u0bbe\u0b95\n", max_size=40))
def test_tokens_are_small_letters_without_blanks(caption):
    for token in tokenize(caption):
        assert token
        assert token.split() == [token]
        assert token == token.lower()
        assert token not in {".", ",", "'", '"', "-", ":", ";", "!", "?"}


@pytest.mark.parametrize("piece", ["\u0b95\u0bbe", "a-", "a.", "1,", "ae'", "a&", "<a", "!?", "no. "])
def test_no_text_makes_the_tokeniser_run_away(piece):
    assert len("".join(tokenize(piece * 20_000))) <= 20_000 * len(piece)


def test_half_an_emoji_is_left_out():
    assert tokenize("a sunny \ud83c beach") == ["a", "sunny", "beach"]


def test_bleu_by_hand():
    # Of "a dog runs on grass", 4 of 5 words, 2 of 4 pairs, 1 of 3 triples and none of the two fours match.
    corpus, per_image = bleu(split("a dog runs on grass"), [split("a dog runs in grass")])
    assert corpus == pytest.approx([0.8, math.sqrt(0.8 * 0.5), (0.8 * 0.5 / 3) ** (1 / 3), 0], abs=1e-3)
    assert per_image.tolist() == [corpus.tolist()]


def test_bleu_counts_a_word_as_often_as_one_reference_has_it():
    corpus, _ = bleu(split("the the the the"), [split("the cat", "the dog the")])
    assert corpus[0] == pytest.approx(2 / 4)


def test_bleu_punishes_what_is_shorter_than_the_closest_reference():
    corpus, _ = bleu(split("a dog"), [split("a dog runs away")])
    assert corpus[:2] == pytest.approx([math.exp(1 - 4 / 2)] * 2)
    tie, _ = bleu(split("a dog runs"), [split("a dog", "a dog runs fast")])
    assert tie[0] == pytest.approx(1)


def test_bleu_of_a_set_pools_counts():
    corpus, per_image = bleu(split("a b c d", "x"), [split("a b c d"), split("y")])
    assert corpus[0] == pytest.approx(4 / 5)
    assert per_image[:, 0] == pytest.approx([1, 0])


def test_rouge_l_by_hand():
    # The longest common subsequences are "a dog runs" (precision 3/3, recall 3/4) and "a runs" (2/3, 2/2).
    squared = 1.2**2
    one = rouge_l(split("a dog runs"), [split("a dog often runs")])
    assert one == pytest.approx([(1 + squared) * 0.75 / (0.75 + squared)])
    assert rouge_l(split("a dog runs"), [split("a dog often runs", "a runs")]) == pytest.approx([1])
    assert rouge_l([[], ["cat"]], [split("a dog"), split("a dog", "")]).tolist() == [0, 0]


def test_cider_by_hand():
    # "a" is in both images and weighs nothing; "dog" and "a dog" match, and no n-gram is longer: 10 * (1 + 1) / 4.
    metric = CiderD([split("a dog"), split("a cat")])
    assert metric.score(split("a dog", "a dog")) == pytest.approx([5, 0])


def test_cider_d_clips_and_minds_length_where_plain_cider_does_not():
    references = [split("dog"), split("cat")]
    candidates = split("dog dog", "cat")
    # Weights (2w) and (w): min(2w, w) * w / (2w * w) = 1/2; one bigram more; over four n-gram lengths, times 10.
    assert CiderD(references).score(candidates) == pytest.approx([10 / 4 * 0.5 * math.exp(-1 / 72), 2.5])
    assert PlainCider(references).score(candidates) == pytest.approx([2.5, 2.5])


def test_a_candidate_equal_to_its_only_reference_scores_ten():
    captions = split("a dog runs on grass", "two cats sit here now", "the sea is very blue")
    assert CiderD([[caption] for caption in captions]).score(captions) == pytest.approx([10] * 3)


def test_bleu_equals_coco_caption(random_set):
    scorer = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4)
    theirs, theirs_per_image = scorer.compute_score(*as_coco(*random_set), verbose=0)
    corpus, per_image = bleu(*random_set)
    assert corpus == pytest.approx(theirs, abs=1e-9)
    assert per_image == pytest.approx(np.transpose(theirs_per_image), abs=1e-9)


def test_rouge_l_equals_coco_caption(random_set):
    theirs, theirs_per_image = (
        pytest.importorskip("pycocoevalcap.rouge.rouge").Rouge().compute_score(*as_coco(*random_set))
    )
    scores = rouge_l(*random_set)
    assert scores == pytest.approx(theirs_per_image, abs=1e-9)
    assert scores.mean() == pytest.approx(theirs, abs=1e-9)


def test_cider_d_equals_what_coco_caption_calls_cider(random_set):
    scorer = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
    theirs, theirs_per_image = scorer.compute_score(*as_coco(*random_set))
    candidates, references = random_set
    scores = CiderD(references).score(candidates)
    assert scores == pytest.approx(theirs_per_image, abs=1e-9)
    assert scores.mean() == pytest.approx(theirs, abs=1e-9)
    assert PlainCider(references).score(candidates) != pytest.approx(theirs_per_image, abs=0.1)


def test_several_candidates_of_an_image_are_scored_each_by_itself(random_set):
    candidates, references = random_set
    metric = CiderD(references)
    samples = [candidates[5], candidates[10], candidates[6], candidates[10]]
    images = [5, 10, 5, 10]
    scores = metric.score(samples, images)
    alone = [metric.score([sample], [image])[0] for sample, image in zip(samples, images, strict=True)]
    assert scores == pytest.approx(alone)
    assert scores[[1, 3]] == pytest.approx([metric.score(candidates)[10]] * 2)
    assert metric.score([], []).shape == (0,)


@pytest.mark.parametrize("images", [None, [0], [0, 60], [-1, 0]])
def test_candidates_that_do_not_fit_the_images_are_refused(random_set, images):
    with pytest.raises(ShowtellError, match="images"):
        CiderD(random_set[1]).score(split("a dog", "a cat"), images)


def test_an_image_without_references_is_refused():
    with pytest.raises(ShowtellError, match="image 1 has no references"):
        CiderD([split("a dog"), []])


def test_document_frequencies_count_images_not_captions():
    frequencies = DocumentFrequencies.from_references([split("a dog", "a dog a dog"), split("a cat"), split("dog")])
    assert frequencies.images == 3
    assert frequencies.counts == {"a": 2, "dog": 2}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.lists(st.sampled_from("abc"), max_size=6), min_size=1, max_size=3), min_size=1, max_size=5))
def test_document_frequencies_are_those_of_a_plain_count(references):
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


def test_with_the_frequencies_of_the_set_an_image_alone_scores_as_in_the_set(random_set):
    candidates, references = random_set
    frequencies = DocumentFrequencies.from_json(DocumentFrequencies.from_references(references).to_json())
    together = CiderD(references).score(candidates)
    assert together[10] > 1
    assert CiderD(references[10:12], frequencies).score(candidates[10:12]) == pytest.approx(together[10:12])


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"images": 2}', '{"images": 0, "counts": {}}', '{"images": "2", "counts": {}}']
    + [f'{{"images": 2, "counts": {counts}}}' for counts in ("[1]", '{"a": 3}', '{"a": "1"}', '{"": 1}')],
)
def test_texts_that_hold_no_frequencies_are_refused_in_one_line(content):
    with pytest.raises(ShowtellError, match="no document frequencies") as error:
        DocumentFrequencies.from_json(content)
    assert "\n" not in str(error.value)


def test_the_commonest_frequencies_are_those_above_a_count():
    frequencies = DocumentFrequencies(9, {"a": 9, "dog": 5, "a dog": 5, "red": 3, "red dog": 2})
    assert frequencies.commonest(5).counts == frequencies.counts
    assert frequencies.commonest(4).counts == {"a": 9, "dog": 5, "a dog": 5, "red": 3}
    assert frequencies.commonest(2).counts == {"a": 9}  # of the two in five images, both or none
    assert frequencies.commonest(0).counts == {}
    assert frequencies.commonest(0).images == 9


REFERENCES = {
    "a.jpg": ["A dog runs on the grass.", "The dog is running."],
    "b.jpg": ["Two cats sit on a red sofa.", "Cats on a sofa!"],
}


def test_evaluate_scores_text_times_a_hundred():
    scores = score_captions({"b.jpg": "two cats on a sofa and a sofa", "a.jpg": "A dog runs on the grass"}, REFERENCES)
    tokens = split("two cats on a sofa and a sofa", "a dog runs on the grass")
    truths = [
        split("two cats sit on a red sofa", "cats on a sofa"),
        split("a dog runs on the grass", "the dog is running"),
    ]
    assert [scores.bleu_1, scores.bleu_2, scores.bleu_3, scores.bleu_4] == pytest.approx(100 * bleu(tokens, truths)[0])
    assert scores.rouge_l == pytest.approx(100 * rouge_l(tokens, truths).mean())
    cider = 100 * CiderD(truths).score(tokens)
    assert scores.cider == pytest.approx(cider.mean())
    assert scores.per_image == pytest.approx({"b.jpg": cider[0], "a.jpg": cider[1]})
    assert scores.distinct == 1
    assert scores.repeated_bigrams == 0.5
    assert scores.mean_length == 7
    assert scores.notes == ()


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        ({}, {}, "no references"),
        ({"a.jpg": "a dog"}, REFERENCES, r"1 of 2 images, such as 'b\.jpg', lack a caption"),
        ({"a.jpg": "", "b.jpg": "", "c.jpg": ""}, REFERENCES, r"1 of 3 images, such as 'c\.jpg', lack references"),
        ({"a.jpg": "a dog"}, {"a.jpg": []}, r"'a\.jpg'.*none has a word"),
        ({"a.jpg": "a dog"}, {"a.jpg": ["", "."]}, r"'a\.jpg'.*none has a word"),
        ({"a.jpg": "a dog"}, {"a.jpg": "a dog"}, r"'a\.jpg'.*list of captions"),
    ],
)
def test_sets_that_cannot_be_scored_are_refused(candidates, references, message):
    with pytest.raises(ShowtellError, match=message):
        score_captions(candidates, references)


def test_a_zero_is_explained_when_nothing_matches():
    scores = score_captions({"a.jpg": "un chien", "b.jpg": "."}, REFERENCES)
    assert scores.cider == scores.rouge_l == 0
    assert scores.bleu_4 < 1e-3
    assert len(scores.notes) == 2
    assert scores.notes[0] == "1 of 2 captions have no word in them"
    assert "no caption shares a word" in scores.notes[1]


def test_equal_captions_are_pointed_out():
    scores = score_captions(dict.fromkeys(REFERENCES, "A dog is running on a sofa."), REFERENCES)
    assert scores.distinct == 0.5
    assert "all 2 captions are the same ('a dog is running on a sofa')" in scores.notes[0]


@pytest.mark.parametrize(
    ("caption", "note"),
    [
        ("a dog sits on the grass", "BLEU-4 would be 0 without coco-caption's smoothing: no caption shares 4 words"),
        ("sofa dog", "BLEU-2 and above would be 0 without coco-caption's smoothing: no caption shares 2 words"),
        ("a dog runs", "BLEU-4 would be 0 without coco-caption's smoothing: no caption is 4 words long"),
    ],
)
def test_a_bleu_of_zero_is_explained(caption, note):
    notes = score_captions({"a.jpg": caption, "b.jpg": "cats"}, REFERENCES).notes
    assert [text.startswith(note) for text in notes] == [True]


def test_a_cider_of_zero_is_explained_and_mended():
    candidates = {"a.jpg": "a dog runs on the grass"}
    references = {"a.jpg": REFERENCES["a.jpg"]}
    scores = score_captions(candidates, references)
    assert scores.cider == 0
    assert scores.bleu_4 == pytest.approx(100)
    assert [note.startswith("CIDEr can only be 0") for note in scores.notes] == [True]

    every = [list(map(tokenize, captions)) for captions in REFERENCES.values()]
    mended = score_captions(candidates, references, DocumentFrequencies.from_references(every))
    assert mended.cider > 100
    assert mended.notes == ()


def test_a_cider_of_zero_for_want_of_variety_is_explained():
    scores = score_captions({"1": "a red dog", "2": "a dog sits"}, {"1": ["a dog"], "2": ["a dog"]})
    assert scores.cider == 0
    assert "in those of all 2 images" in scores.notes[-1]
