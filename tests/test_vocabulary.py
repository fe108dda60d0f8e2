import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.errors import CaptionFileError
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


def test_a_word_named_twice_is_refused():
    with pytest.raises(CaptionFileError, match="twice"):
        Vocabulary.from_words(["dog", "dog"])
