import json

import h5py
import numpy as np
import pytest

from showtell.data import (
    Example,
    build_caption_data,
    read_captions_h5,
    read_image_names,
    require_new_captions_h5,
    write_captions_h5,
)
from showtell.data.splits import SPLITS
from showtell.errors import CaptionFileError, ConfigurationError
from showtell.recipe import DataConfig
from showtell.vocabulary import END, PAD, START, UNK

EXAMPLES = [
    Example("a.jpg", ("A dog runs.", "The dog"), "train"),
    Example("b.jpg", ("A cat",), "train"),
    Example("c.jpg", ("A dog and a bird",), "val"),
]


def test_the_vocabulary_comes_from_training_captions_only():
    data = build_caption_data(EXAMPLES, DataConfig(max_length=7))
    assert data.vocabulary.tokens[4:] == ("a", "dog", "cat", "runs", "the")
    train, val = data.splits["train"], data.splits["val"]
    assert train.captions.tolist() == [
        [START, 4, 5, 7, END, PAD, PAD],
        [START, 8, 5, END, PAD, PAD, PAD],
        [START, 4, 6, END, PAD, PAD, PAD],
    ]
    assert train.image_rows.tolist() == [0, 0, 1] and train.images == ("a.jpg", "b.jpg")
    assert val.captions.tolist() == [[START, 4, 5, UNK, 4, UNK, END]] and val.image_rows.tolist() == [0]
    assert "40.00% of words unknown" in data.summary()
    assert "train: 2 images, 3 captions, 0.00% of words unknown; words per caption: 2 to 3" in data.summary()


def test_data_without_training_examples_is_rejected():
    with pytest.raises(CaptionFileError, match="no captioned image is in the split 'train'"):
        build_caption_data(EXAMPLES[2:], DataConfig())


@pytest.mark.parametrize("tokenizer", ["word", "char", "bpe"])
def test_a_vocabulary_without_words_is_rejected(tokenizer):
    with pytest.raises(ConfigurationError, match=r"no (words|tokens) occur 1000 times or more; lower --min-count"):
        build_caption_data(EXAMPLES, DataConfig(tokenizer, min_count=1000))


def test_truncated_captions_are_counted():
    examples = [Example("a.jpg", ("one two three", "one two three four", "one", "1 2 3 4 5"), "train")]
    lines = build_caption_data(examples, DataConfig(max_length=5)).summary().splitlines()
    assert lines[-1] == (
        "train: 2 of 4 captions are truncated to 3 words; increase --max-length from 5 to truncate fewer"
    )
    assert "truncated" not in build_caption_data(examples, DataConfig(max_length=7)).summary()


def test_captions_of_characters_are_written_and_read(tmp_path):
    texts = ("一只红色的圆", "ein roter Kreis.")
    data = build_caption_data([Example("a.jpg", texts, "train")], DataConfig("char", max_length=20))
    write_captions_h5(tmp_path / "c.h5", data, "one example")
    loaded = read_captions_h5(tmp_path / "c.h5")
    assert loaded.vocabulary.kind == "char" and "tokens per caption: 7 to 17" in loaded.summary()
    rows = loaded.splits["train"].captions
    assert [loaded.vocabulary.decode(row) for row in rows] == list(texts)
    assert json.loads((tmp_path / "c_vocab.json").read_text())["idx_to_word"][rows[0][2]] == "一"


def test_the_file_has_the_layout_of_the_tutorial_and_is_read_back(tmp_path):
    data = build_caption_data(EXAMPLES, DataConfig(max_length=7))
    path = tmp_path / "coco2014_captions.h5"
    write_captions_h5(path, data, "three examples")
    with h5py.File(path) as file:
        assert file["train_captions"].dtype == np.int32 and file["train_captions"].shape == (3, 7)
        assert file["val_image_idx"][:].tolist() == [0]
        assert file.attrs["source"] == "three examples"
    vocabulary = json.loads((tmp_path / "coco2014_vocab.json").read_text())
    assert vocabulary["idx_to_word"][:5] == ["<pad>", "<start>", "<end>", "<unk>", "a"]
    assert vocabulary["word_to_idx"]["dog"] == 5
    loaded = read_captions_h5(path)
    assert loaded.vocabulary.fingerprint == data.vocabulary.fingerprint
    for name in SPLITS:
        actual, expected = loaded.splits[name], data.splits[name]
        assert isinstance(actual.captions, np.memmap)
        assert np.array_equal(actual.captions, expected.captions)
        assert np.array_equal(actual.image_rows, expected.image_rows)
        assert actual.images == expected.images and actual.texts == expected.texts
    assert read_image_names(path, "val") == ("c.jpg",)


def test_the_layout_of_cs231n_is_read(tmp_path):
    with h5py.File(tmp_path / "coco2014_captions.h5", "w") as file:
        file["train_captions"] = np.array([[1, 4, 5, 2, 0]], np.int64)
        file["train_image_idxs"] = np.array([3], np.int64)
    words = ["<NULL>", "<START>", "<END>", "<UNK>", "a", "dog"]
    content = {"idx_to_word": words, "word_to_idx": {word: index for index, word in enumerate(words)}}
    (tmp_path / "coco2014_vocab.json").write_text(json.dumps(content))
    data = read_captions_h5(tmp_path / "coco2014_captions.h5")
    split = data.splits["train"]
    assert data.vocabulary.decode(split.captions[0]) == "a dog"
    assert split.image_rows.tolist() == [3] and split.images is None and split.texts is None
    with pytest.raises(CaptionFileError, match="does not name the images"):
        read_image_names(tmp_path / "coco2014_captions.h5", "train")


def test_unusable_files_are_rejected_in_one_line(tmp_path):
    data = build_caption_data(EXAMPLES, DataConfig())
    write_captions_h5(tmp_path / "c.h5", data, "")
    with h5py.File(tmp_path / "c.h5", "a") as file:
        file["train_captions"][0, 1] = 99
    (tmp_path / "text.h5").write_text("no")
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file.attrs["vocabulary"] = data.vocabulary.to_json()
    with h5py.File(tmp_path / "bare.h5", "w") as file:
        file["train_captions"] = np.zeros((1, 5), int)
    with h5py.File(tmp_path / "tokenizer.h5", "w") as file:
        file.attrs["vocabulary"] = "{}"
    with h5py.File(tmp_path / "texts.h5", "w") as file:
        file.attrs["vocabulary"] = data.vocabulary.to_json()
        file["train_captions"], file["train_image_idx"] = np.zeros((2, 5), int), np.zeros(2, int)
        file.create_dataset("train_texts", data=["only one"], dtype=h5py.string_dtype())
    for name, reason in (
        ("c.h5", "ids outside its vocabulary"),
        ("text.h5", "not a usable"),
        ("empty.h5", "'train_captions' is missing"),
        ("bare.h5", "cannot read the vocabulary"),
        ("tokenizer.h5", "not a vocabulary"),
        ("texts.h5", "train_captions has 2 rows, but train_texts has 1"),
        ("absent.h5", "no such file"),
    ):
        with pytest.raises(CaptionFileError, match=reason) as error:
            read_captions_h5(tmp_path / name)
        assert "\n" not in str(error.value) and name[:-3] in str(error.value)


def test_no_existing_file_is_overwritten(tmp_path):
    require_new_captions_h5(tmp_path / "c.h5")
    with pytest.raises(ConfigurationError, match=r"must end in \.h5"):
        require_new_captions_h5(tmp_path / "c.json")
    (tmp_path / "c.h5").touch()
    with pytest.raises(ConfigurationError, match=r"c\.h5: already exists"):
        require_new_captions_h5(tmp_path / "c.h5")
    (tmp_path / "d_vocab.json").write_text('{"my": "file"}')
    with pytest.raises(ConfigurationError, match=r"d_vocab\.json: already exists"):
        write_captions_h5(tmp_path / "d.h5", build_caption_data(EXAMPLES, DataConfig()), "")
