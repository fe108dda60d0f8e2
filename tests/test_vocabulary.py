import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.errors import ConfigurationError, VocabularyError
from showtell.recipe import MAX_VOCABULARY_SIZE
from showtell.vocabulary import END, MAX_TOKENS, PAD, SPECIAL_TOKENS, START, UNK, Vocabulary

CAPTIONS = ["A dog runs.", "A dog sits!", "The black dog"]


def test_the_most_frequent_words_come_first_and_ties_are_alphabetical():
    vocabulary = Vocabulary.build(CAPTIONS)
    assert vocabulary.tokens == (*SPECIAL_TOKENS, "dog", "a", "black", "runs", "sits", "the")


def test_size_and_min_count_limit_the_words():
    assert Vocabulary.build(CAPTIONS, size=1).tokens[4:] == ("dog",)
    assert Vocabulary.build(CAPTIONS, min_count=2).tokens[4:] == ("dog", "a")


def test_extend_keeps_all_ids_and_appends_frequent_new_words():
    old = Vocabulary.from_words(["runs", "zebra", "a"])
    assert old.extend(CAPTIONS).tokens == (*old.tokens, "dog", "black", "sits", "the")
    assert old.extend(CAPTIONS, min_count=2).tokens == (*old.tokens, "dog")
    assert old.extend(CAPTIONS, size=5).tokens == (*old.tokens, "dog", "black")
    assert old.extend(CAPTIONS, size=1).tokens == old.tokens
    assert old.extend([]).fingerprint == old.fingerprint


def test_a_caption_becomes_a_padded_row():
    vocabulary = Vocabulary.from_words(["a", "dog", "runs"])
    rows = vocabulary.encode(["A dog runs.", "a cat"], length=6)
    assert rows.dtype == np.int32
    assert rows.tolist() == [[START, 4, 5, 6, END, PAD], [START, 4, UNK, END, PAD, PAD]]


def test_a_long_caption_keeps_its_end_token():
    vocabulary = Vocabulary.from_words(["a", "b", "c"])
    assert vocabulary.encode(["a b c a b c"], length=5).tolist() == [[START, 4, 5, 6, END]]


@pytest.mark.parametrize(
    ("caption", "decoded"),
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
def test_encoding_and_decoding_normalises_words(caption, decoded):
    vocabulary = Vocabulary.build([caption])
    assert vocabulary.decode(vocabulary.encode([caption], 25)[0]) == decoded


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(alphabet="abcé漢'- .,", max_size=20), max_size=4))
def test_decoded_captions_are_encoded_identically(captions):
    vocabulary = Vocabulary.build(captions)
    rows = vocabulary.encode(captions, 30)
    assert vocabulary.encode([vocabulary.decode(row) for row in rows], 30).tolist() == rows.tolist()
    assert UNK not in rows


def test_a_saved_vocabulary_is_loaded_unchanged(tmp_path):
    vocabulary = Vocabulary.build(CAPTIONS)
    vocabulary.save(tmp_path / "vocabulary.json")
    loaded = Vocabulary.load(tmp_path / "vocabulary.json")
    assert loaded.tokens == vocabulary.tokens
    assert loaded.fingerprint == vocabulary.fingerprint
    assert loaded.encode(["a <start> dog's"], 8).tolist() == vocabulary.encode(["a <start> dog's"], 8).tolist()


def test_the_fingerprint_depends_on_the_order_of_words():
    assert Vocabulary.from_words(["a", "b"]).fingerprint != Vocabulary.from_words(["b", "a"]).fingerprint


def test_invalid_vocabulary_files_are_rejected_in_one_line(tmp_path):
    path = tmp_path / "vocabulary.json"
    for content in (b"", b"{}", b"\xff\xfe", b"[1, 2]"):
        path.write_bytes(content)
        with pytest.raises(VocabularyError, match=r"vocabulary\.json") as error:
            Vocabulary.load(path)
        assert "\n" not in str(error.value)


SEVERAL_LANGUAGES = [
    "一只红色的圆，在灰色背景上",  # noqa: RUF001
    "一只红色的星",
    "دائرة حمراء كبيرة على خلفية مخططة",
    "Ein großer, roter Kreis!",
    "Ein roter Stern",
    "한 마리의 개",
    "می‌خواهم",  # with a zero-width non-joiner
]


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_subwords_and_characters_are_decoded_to_the_original_text(kind):
    vocabulary = Vocabulary.build(SEVERAL_LANGUAGES, 200, kind=kind)
    decomposed = [unicodedata.normalize("NFD", caption).replace(" ", " \t ") for caption in SEVERAL_LANGUAGES]
    assert decomposed != SEVERAL_LANGUAGES
    rows = vocabulary.encode(decomposed, 60)
    assert [vocabulary.decode(row) for row in rows] == SEVERAL_LANGUAGES
    loaded = Vocabulary.from_json(vocabulary.to_json())
    assert loaded.kind == vocabulary.kind == kind and loaded.fingerprint == vocabulary.fingerprint
    assert loaded.encode(SEVERAL_LANGUAGES, 60).tolist() == rows.tolist()
    assert vocabulary.tokens == Vocabulary.build(SEVERAL_LANGUAGES, 200, kind=kind).tokens


def test_characters_are_sorted_by_frequency_and_include_the_word_start():
    vocabulary = Vocabulary.build(["ab b", "b"], kind="char")
    assert vocabulary.tokens[4:] == ("b", "▁", "a")
    assert vocabulary.encode(["ab b", "bc"], 8).tolist() == [
        [START, 5, 6, 4, 5, 4, END, PAD],
        [START, 5, 4, UNK, END, PAD, PAD, PAD],
    ]
    assert vocabulary.token_strings([5, 6, 4, 5, 4]) == ("", "a", "b", "", "b")
    assert Vocabulary.build(["ab b", "b"], size=2, kind="char").tokens[4:] == ("b", "▁")
    assert Vocabulary.build(["ab b", "b"], min_count=2, kind="char").tokens[4:] == ("b", "▁")


def test_the_most_frequent_pair_becomes_a_subword():
    captions = ["红色的圆", "红色的星", "红花"]
    vocabulary = Vocabulary.build(captions, kind="bpe")
    # "▁红" occurs three times. "色的" and then "▁红色的" occur twice.
    assert set(vocabulary.tokens[4:]) == {*"▁红色的圆星花", "▁红", "色的", "▁红色的"}
    (row,) = vocabulary.encode(["红色的花"], 6)
    assert [vocabulary.tokens[index] for index in row] == ["<start>", "▁红色的", "花", "<end>", "<pad>", "<pad>"]
    assert Vocabulary.build(captions, size=8, kind="bpe").tokens[-1] == "▁红"
    assert Vocabulary.build(captions, size=8, kind="bpe").fingerprint != vocabulary.fingerprint


@pytest.mark.parametrize("kind", ["word", "bpe", "char"])
def test_special_tokens_in_captions_are_ordinary_text(kind):
    vocabulary = Vocabulary.build(["a <unk> dog <pad> <unk>"] * 9, kind=kind)
    (row,) = vocabulary.encode(["a <unk> dog"], 30)
    assert UNK not in row and vocabulary.decode(row) == ("a unk dog" if kind == "word" else "a <unk> dog")


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(alphabet="abcé漢'- .,<>\u0301", max_size=20), max_size=4), st.sampled_from(["bpe", "char"]))
def test_text_with_single_spaces_is_kept(captions, kind):
    vocabulary = Vocabulary.build(captions, kind=kind)
    rows = vocabulary.encode(captions, 50)
    # A combining mark after a space is not composed with it.
    expected = [" ".join(unicodedata.normalize("NFC", word) for word in caption.split()) for caption in captions]
    assert [vocabulary.decode(row) for row in rows] == expected


def test_extended_subwords_encode_old_captions_as_before_and_new_ones_as_characters():
    old = Vocabulary.build(SEVERAL_LANGUAGES, 200, kind="bpe")
    new = old.extend(["Новый стиль", "Ein roter Stern"])
    assert new.tokens == (*old.tokens, *new.tokens[len(old) :]) and set(new.tokens[len(old) :]) == set("Новыйстиль")
    assert new.is_extension_of(old) and new.kind == "bpe" and not old.is_extension_of(new)
    assert new.encode(SEVERAL_LANGUAGES, 40).tolist() == old.encode(SEVERAL_LANGUAGES, 40).tolist()
    (row,) = new.encode(["Новый стиль"], 20)
    assert UNK not in row and new.decode(row) == "Новый стиль"
    assert not Vocabulary.build(SEVERAL_LANGUAGES, kind="char").extend(SEVERAL_LANGUAGES).is_extension_of(old)


def test_find_id_accepts_exactly_one_known_word_or_character():
    assert Vocabulary.from_words(["dog"]).find_id("Dog!") == 4
    char = Vocabulary.build(["红e\u0301"], kind="char")
    assert char.tokens[char.find_id("红")] == "红" and char.tokens[char.find_id("e\u0301")] == "é"
    for vocabulary, word, reason in [
        (Vocabulary.from_words(["dog"]), "cat", "not among the 5 words"),
        (Vocabulary.from_words(["dog"]), "a dog", "not a single word"),
        (char, "红é", "not a single character"),
        (char, "x", "not among the 7 tokens"),
        (Vocabulary.build(["dog dog"], kind="bpe"), "dog", "uses subwords"),
    ]:
        with pytest.raises(ConfigurationError, match=reason):
            vocabulary.find_id(word)


def test_a_duplicate_word_is_rejected():
    with pytest.raises(VocabularyError, match="twice"):
        Vocabulary.from_words(["dog", "dog"])


def change(*path_and_value):
    """Return a function that changes one value of a vocabulary file."""
    *path, name, value = path_and_value

    def changed(content):
        container = content
        for key in path:
            container = container[key]
        container[name] = value

    return changed


HOSTILE_REGEX = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (change("pre_tokenizer", HOSTILE_REGEX), "settings"),
        (change("normalizer", {"type": "Replace", "pattern": {"Regex": ""}, "content": "x" * 9}), "settings"),
        (change("normalizer", {"type": "Prepend", "prepend": "x" * 100_000}), "settings"),
        (change("decoder", {"type": "Strip", "content": "a", "start": 10**9, "stop": 0}), "settings"),
        (change("decoder", {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 100_000}), "settings"),
        (change("post_processor", {"type": "ByteLevel"}), "settings"),
        (change("truncation", {"max_length": 0, "strategy": "LongestFirst", "stride": 1}), "settings"),
        (change("padding", {"strategy": {"Fixed": 10**9}}), "settings"),
        (change("model", "type", "Unigram"), "settings"),
        (change("model", "unk_token", "dog"), "settings"),
        (change("added_tokens", 0, "content", "dog"), "settings"),
        (change("added_tokens", []), "settings"),
        (change("model", "vocab", "cat", 10**9), "token ids"),
        (change("model", "vocab", "cat", 4), "token ids"),
        (change("model", "vocab", "cat", "5"), "not a vocabulary"),
        (change("model", "vocab", "\x1b[2J", 5), "control characters"),
        (change("model", "vocab", "a\u2028b", 5), "control characters"),
        (change("model", "vocab", "\ud800", 5), "not a vocabulary"),
        (change("model", "vocab", "", 5), "1 to 200 characters"),
        (change("model", "vocab", "x" * 100_000, 5), "1 to 200 characters"),
        (change("model", "vocab", {}), "does not start with"),
        (change("model", "vocab", []), "does not start with"),
        (change("model", []), "not a vocabulary"),
    ],
)
def test_a_tokenizer_that_showtell_did_not_write_is_refused_in_one_line(damage, reason):
    content = json.loads(Vocabulary.from_words(["dog"]).to_json())
    damage(content)
    with pytest.raises(VocabularyError, match=reason) as error:
        Vocabulary.from_json(json.dumps(content))
    assert str(error.value).isprintable() and len(str(error.value)) < 500


def test_merges_of_unknown_tokens_are_refused():
    content = json.loads(Vocabulary.build(["aa aa"], kind="bpe").to_json())
    for merges in ([["a", "x"]], ["a a"], [["a"]], [[1, 2]], 7, [["a", "a", "a"]]):
        content["model"]["merges"] = merges
        with pytest.raises(VocabularyError):
            Vocabulary.from_json(json.dumps(content))


@pytest.mark.parametrize("kind", ["word", "bpe", "char"])
def test_captions_with_control_characters_give_a_valid_vocabulary(kind):
    vocabulary = Vocabulary.build(["a \x1b[2J dog\x00", "a \x9b dog " + "x" * 300], kind=kind)
    assert vocabulary.tokens[4:] and Vocabulary.from_json(vocabulary.to_json()).tokens == vocabulary.tokens
    assert not {"\x1b", "\x00", "\x9b"} & set("".join(vocabulary.tokens))


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=200), unique=True)
)
def test_any_printable_tokens_can_be_decoded(words):
    words = [word for word in words if word not in SPECIAL_TOKENS]
    vocabulary = Vocabulary.from_json(Vocabulary.from_words(words).to_json())
    assert vocabulary.tokens[4:] == tuple(words)
    assert len(vocabulary.decode(range(len(vocabulary))).splitlines()) <= 1


def test_recipes_and_vocabularies_have_the_same_maximum_size():
    assert MAX_VOCABULARY_SIZE + len(SPECIAL_TOKENS) == MAX_TOKENS
