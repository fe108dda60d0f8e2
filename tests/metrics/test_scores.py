import pytest
from helpers import split_words

from showtell.errors import ShowtellError
from showtell.metrics import CiderD, DocumentFrequencies, bleu, rouge_l, score_captions, tokenize

REFERENCES = {
    "a.jpg": ["A dog runs on the grass.", "The dog is running."],
    "b.jpg": ["Two cats sit on a red sofa.", "Cats on a sofa!"],
}


def test_scores_are_multiplied_by_a_hundred():
    scores = score_captions({"b.jpg": "two cats on a sofa and a sofa", "a.jpg": "A dog runs on the grass"}, REFERENCES)
    tokens = split_words("two cats on a sofa and a sofa", "a dog runs on the grass")
    truths = [
        split_words("two cats sit on a red sofa", "cats on a sofa"),
        split_words("a dog runs on the grass", "the dog is running"),
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
        ({"a.jpg": "a dog"}, {"a.jpg": []}, r"'a\.jpg'.*no reference contains a word"),
        ({"a.jpg": "a dog"}, {"a.jpg": ["", "."]}, r"'a\.jpg'.*no reference contains a word"),
        ({"a.jpg": "a dog"}, {"a.jpg": "a dog"}, r"'a\.jpg'.*list of captions"),
    ],
)
def test_incomplete_sets_are_rejected(candidates, references, message):
    with pytest.raises(ShowtellError, match=message):
        score_captions(candidates, references)


def test_a_zero_score_without_any_match_is_explained():
    scores = score_captions({"a.jpg": "un chien", "b.jpg": "."}, REFERENCES)
    assert scores.cider == scores.rouge_l == 0
    assert scores.bleu_4 < 1e-3
    assert len(scores.notes) == 2
    assert scores.notes[0] == "1 of 2 captions contain no words"
    assert "no caption shares a word" in scores.notes[1]


def test_identical_captions_add_a_note():
    scores = score_captions(dict.fromkeys(REFERENCES, "A dog is running on a sofa."), REFERENCES)
    assert scores.distinct == 0.5
    assert "all 2 captions are identical ('a dog is running on a sofa')" in scores.notes[0]


@pytest.mark.parametrize(
    ("caption", "note"),
    [
        (
            "a dog sits on the grass",
            "BLEU-4 would be 0 without the smoothing of coco-caption: no caption shares 4 words",
        ),
        ("sofa dog", "BLEU-2 and above would be 0 without the smoothing of coco-caption: no caption shares 2 words"),
        ("a dog runs", "BLEU-4 would be 0 without the smoothing of coco-caption: no caption has 4 words"),
    ],
)
def test_a_zero_bleu_is_explained(caption, note):
    notes = score_captions({"a.jpg": caption, "b.jpg": "cats"}, REFERENCES).notes
    assert [text.startswith(note) for text in notes] == [True]


def test_a_zero_cider_of_one_image_is_explained_and_avoided():
    candidates = {"a.jpg": "a dog runs on the grass"}
    references = {"a.jpg": REFERENCES["a.jpg"]}
    scores = score_captions(candidates, references)
    assert scores.cider == 0
    assert scores.bleu_4 == pytest.approx(100)
    assert [note.startswith("CIDEr is always 0") for note in scores.notes] == [True]

    all_references = [list(map(tokenize, captions)) for captions in REFERENCES.values()]
    rescored = score_captions(candidates, references, DocumentFrequencies.from_references(all_references))
    assert rescored.cider > 100
    assert rescored.notes == ()


def test_a_zero_cider_without_variety_is_explained():
    scores = score_captions({"1": "a red dog", "2": "a dog sits"}, {"1": ["a dog"], "2": ["a dog"]})
    assert scores.cider == 0
    assert "in the references of all 2 images" in scores.notes[-1]
