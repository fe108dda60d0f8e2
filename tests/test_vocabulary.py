import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.errors import CaptionFileError, ConfigurationError
from showtell.vocabulary import END, PAD, SPECIAL_TOKENS, START, UNK, Vocabulary

CAPTIONS = ["A dog runs.", "A dog sits!", "The black dog"]


def test_the_most_frequent_words_come_first_and_ties_go_by_the_alphabet():
    vocabulary = Vocabulary.build(CAPTIONS)
    assert vocabulary.words == (*SPECIAL_TOKENS, "dog", "a", "black", "runs", "sits", "the")


def test_size_and_min_count_bound_the_words():
    assert Vocabulary.build(CAPTIONS, size=1).words[4:] == ("dog",)
    assert Vocabulary.build(CAPTIONS, min_count=2).words[4:] == ("dog", "a")


def test_an_extended_vocabulary_keeps_every_id_and_appends_the_frequent_new_words():
    old = Vocabulary.from_words(["runs", "zebra", "a"])
    assert old.extended(CAPTIONS).words == (*old.words, "dog", "black", "sits", "the")
    assert old.extended(CAPTIONS, min_count=2).words == (*old.words, "dog")
    assert old.extended(CAPTIONS, size=5).words == (*old.words, "dog", "black")
    assert old.extended(CAPTIONS, size=1).words == old.words
    assert old.extended([]).fingerprint == old.fingerprint


def test_a_caption_becomes_a_padded_row():
    vocabulary = Vocabulary.from_words(["a", "dog", "runs"])
    rows = vocabulary.encode(["A dog runs.", "a cat"], length=6)
    assert rows.dtype == np.int32
    assert rows.tolist() == [[START, 4, 5, 6, END, PAD], [START, 4, UNK, END, PAD, PAD]]


def test_a_long_caption_keeps_its_end_token():
    vocabulary = Vocabulary.from_words(["a", "b", "c"])
    assert vocabulary.encode(["a b c a b c"], length=5).tolist() == [[START, 4, 5, 6, END]]


@pytest.mark.parametrize(
    ("caption", "read_back"),
    [
        ("The man's dog", "the man's dog"),
        ("The man 's dog", "the man's dog"),
        ("The man\u2019s dog", "the man's dog"),
        ("It doesn't move", "it doesn't move"),
        ("a tri-colored T-shirt, size 3.5", "a tri-colored t-shirt size 3.5"),
        ("'quoted' words (in brackets) -- here", "quoted words in brackets here"),
        ("cafe\u0301", "café"),
        ("a <start> b <pad>", "a start b pad"),
        ("", ""),
    ],
)
def test_what_is_read_back(caption, read_back):
    vocabulary = Vocabulary.build([caption])
    assert vocabulary.decode(vocabulary.encode([caption], 25)[0]) == read_back


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(alphabet="abcé漢'- .,", max_size=20), max_size=4))
def test_encoding_what_was_decoded_changes_nothing(captions):
    vocabulary = Vocabulary.build(captions)
    rows = vocabulary.encode(captions, 30)
    assert vocabulary.encode([vocabulary.decode(row) for row in rows], 30).tolist() == rows.tolist()
    assert UNK not in rows


def test_a_file_gives_back_the_same_vocabulary(tmp_path):
    vocabulary = Vocabulary.build(CAPTIONS)
    vocabulary.save(tmp_path / "vocabulary.json")
    loaded = Vocabulary.load(tmp_path / "vocabulary.json")
    assert loaded.words == vocabulary.words
    assert loaded.fingerprint == vocabulary.fingerprint
    assert loaded.encode(["a <start> dog's"], 8).tolist() == vocabulary.encode(["a <start> dog's"], 8).tolist()


def test_the_fingerprint_depends_on_the_order_of_words():
    assert Vocabulary.from_words(["a", "b"]).fingerprint != Vocabulary.from_words(["b", "a"]).fingerprint


def test_files_that_are_no_vocabulary_are_refused_in_one_line(tmp_path):
    path = tmp_path / "vocabulary.json"
    for content in (b"", b"{}", b"\xff\xfe", b"[1, 2]"):
        path.write_bytes(content)
        with pytest.raises(CaptionFileError, match=r"vocabulary\.json") as error:
            Vocabulary.load(path)
        assert "\n" not in str(error.value)


SEVERAL_LANGUAGES = [
    "一只红色的圆，在灰色背景上",  # noqa: RUF001
    "一只红色的星",
    "دائرة حمراء كبيرة على خلفية مخططة",
    "Ein großer, roter Kreis!",
    "Ein roter Stern",
    "한 마리의 개",
    "می‌خواهم",  # with a joiner that has no width
]


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_pieces_and_characters_give_back_what_was_written(kind):
    vocabulary = Vocabulary.build(SEVERAL_LANGUAGES, 200, kind=kind)
    decomposed = [unicodedata.normalize("NFD", caption).replace(" ", " \t ") for caption in SEVERAL_LANGUAGES]
    assert decomposed != SEVERAL_LANGUAGES
    rows = vocabulary.encode(decomposed, 60)
    assert [vocabulary.decode(row) for row in rows] == SEVERAL_LANGUAGES
    loaded = Vocabulary.from_json(vocabulary.to_json())
    assert loaded.kind == vocabulary.kind == kind and loaded.fingerprint == vocabulary.fingerprint
    assert loaded.encode(SEVERAL_LANGUAGES, 60).tolist() == rows.tolist()
    assert vocabulary.words == Vocabulary.build(SEVERAL_LANGUAGES, 200, kind=kind).words


def test_characters_come_by_frequency_and_a_blank_is_one_of_them():
    vocabulary = Vocabulary.build(["ab b", "b"], kind="char")
    assert vocabulary.words[4:] == ("b", "▁", "a")
    assert vocabulary.encode(["ab b", "bc"], 8).tolist() == [
        [START, 5, 6, 4, 5, 4, END, PAD],
        [START, 5, 4, UNK, END, PAD, PAD, PAD],
    ]
    assert vocabulary.token_strings([5, 6, 4, 5, 4]) == ("", "a", "b", "", "b")
    assert Vocabulary.build(["ab b", "b"], size=2, kind="char").words[4:] == ("b", "▁")
    assert Vocabulary.build(["ab b", "b"], min_count=2, kind="char").words[4:] == ("b", "▁")


def test_the_pair_that_stands_together_most_often_becomes_a_piece():
    captions = ["红色的圆", "红色的星", "红花"]
    vocabulary = Vocabulary.build(captions, kind="bpe")
    # Thrice: "▁红". Then twice each: "的" after "色", and that after "▁红".
    assert set(vocabulary.words[4:]) == {*"▁红色的圆星花", "▁红", "色的", "▁红色的"}
    (row,) = vocabulary.encode(["红色的花"], 6)
    assert [vocabulary.words[index] for index in row] == ["<start>", "▁红色的", "花", "<end>", "<pad>", "<pad>"]
    assert Vocabulary.build(captions, size=8, kind="bpe").words[-1] == "▁红"
    assert Vocabulary.build(captions, size=8, kind="bpe").fingerprint != vocabulary.fingerprint


@pytest.mark.parametrize("kind", ["word", "bpe", "char"])
def test_special_tokens_in_captions_are_text(kind):
    vocabulary = Vocabulary.build(["a <unk> dog <pad> <unk>"] * 9, kind=kind)
    (row,) = vocabulary.encode(["a <unk> dog"], 30)
    assert UNK not in row and vocabulary.decode(row) == ("a unk dog" if kind == "word" else "a <unk> dog")


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(alphabet="abcé漢'- .,<>\u0301", max_size=20), max_size=4), st.sampled_from(["bpe", "char"]))
def test_text_with_single_blanks_is_kept_in_any_case(captions, kind):
    vocabulary = Vocabulary.build(captions, kind=kind)
    rows = vocabulary.encode(captions, 50)
    # Pieces that begin with a combining mark stay apart from the blank before them.
    expected = [" ".join(unicodedata.normalize("NFC", piece) for piece in caption.split()) for caption in captions]
    assert [vocabulary.decode(row) for row in rows] == expected


def test_extended_pieces_write_old_captions_as_before_and_new_ones_in_characters():
    old = Vocabulary.build(SEVERAL_LANGUAGES, 200, kind="bpe")
    new = old.extended(["Новый стиль", "Ein roter Stern"])
    assert new.words == (*old.words, *new.words[len(old) :]) and set(new.words[len(old) :]) == set("Новыйстиль")
    assert new.goes_on_from(old) and new.kind == "bpe" and not old.goes_on_from(new)
    assert new.encode(SEVERAL_LANGUAGES, 40).tolist() == old.encode(SEVERAL_LANGUAGES, 40).tolist()
    (row,) = new.encode(["Новый стиль"], 20)
    assert UNK not in row and new.decode(row) == "Новый стиль"
    assert not Vocabulary.build(SEVERAL_LANGUAGES, kind="char").extended(SEVERAL_LANGUAGES).goes_on_from(old)


def test_what_can_be_looked_up_by_itself():
    assert Vocabulary.from_words(["dog"]).id_of("Dog!") == 4
    char = Vocabulary.build(["红e\u0301"], kind="char")
    assert char.words[char.id_of("红")] == "红" and char.words[char.id_of("e\u0301")] == "é"
    for vocabulary, word, reason in [
        (Vocabulary.from_words(["dog"]), "cat", "not among the 5 words"),
        (Vocabulary.from_words(["dog"]), "a dog", "not one word"),
        (char, "红é", "not one character"),
        (char, "x", "not among the 7 tokens"),
        (Vocabulary.build(["dog dog"], kind="bpe"), "dog", "pieces of words"),
    ]:
        with pytest.raises(ConfigurationError, match=reason):
            vocabulary.id_of(word)


def test_a_word_named_twice_is_refused():
    with pytest.raises(CaptionFileError, match="twice"):
        Vocabulary.from_words(["dog", "dog"])
