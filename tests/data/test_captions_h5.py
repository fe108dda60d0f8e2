import json

import h5py
import numpy as np
import pytest

from showtell.data import captions_h5 as dataset
from showtell.data.caption_files import Example
from showtell.errors import CaptionFileError, ConfigurationError
from showtell.recipe import DataConfig
from showtell.vocabulary import END, PAD, START, UNK

EXAMPLES = [
    Example("a.jpg", ("A dog runs.", "The dog"), "train"),
    Example("b.jpg", ("A cat",), "train"),
    Example("c.jpg", ("A dog and a bird",), "val"),
]


def test_captions_are_indexed_with_the_words_of_training_alone(tmp_path):
    data = dataset.build_caption_data(EXAMPLES, DataConfig(max_length=7))
    assert data.vocabulary.words[4:] == ("a", "dog", "cat", "runs", "the")
    train, val = data.splits["train"], data.splits["val"]
    assert train.captions.tolist() == [
        [START, 4, 5, 7, END, PAD, PAD],
        [START, 8, 5, END, PAD, PAD, PAD],
        [START, 4, 6, END, PAD, PAD, PAD],
    ]
    assert train.image_rows.tolist() == [0, 0, 1] and train.images == ("a.jpg", "b.jpg")
    assert val.captions.tolist() == [[START, 4, 5, UNK, 4, UNK, END]] and val.image_rows.tolist() == [0]
    assert "40.00% of words unknown" in dataset.summary(data)
    assert "train: 2 images, 3 captions, 0.00% of words unknown; words a caption: 2 to 3" in dataset.summary(data)


def test_captions_that_are_cut_are_counted():
    examples = [Example("a.jpg", ("one two three", "one two three four", "one", "1 2 3 4 5"), "train")]
    lines = dataset.summary(dataset.build_caption_data(examples, DataConfig(max_length=5))).splitlines()
    assert lines[-1] == "train: 2 of 4 captions are cut after 3 words; a --max-length above 5 leaves more whole"
    assert "cut" not in dataset.summary(dataset.build_caption_data(examples, DataConfig(max_length=7)))


def test_characters_are_indexed_and_read_back(tmp_path):
    texts = ("一只红色的圆", "ein roter Kreis.")
    examples = [Example("a.jpg", texts, "train")]
    dataset.write(
        tmp_path / "c.h5", dataset.build_caption_data(examples, DataConfig("char", max_length=20)), "one example"
    )
    loaded = dataset.read(tmp_path / "c.h5")
    assert loaded.vocabulary.kind == "char" and "tokens a caption: 7 to 17" in dataset.summary(loaded)
    rows = loaded.splits["train"].captions
    assert [loaded.vocabulary.decode(row) for row in rows] == list(texts)
    assert json.loads((tmp_path / "c_vocab.json").read_text())["idx_to_word"][rows[0][2]] == "一"


def test_the_file_has_the_tutorials_layout_and_is_read_back(tmp_path):
    data = dataset.build_caption_data(EXAMPLES, DataConfig(max_length=7))
    path = tmp_path / "coco2014_captions.h5"
    dataset.write(path, data, "three examples")
    with h5py.File(path) as file:
        assert file["train_captions"].dtype == np.int32 and file["train_captions"].shape == (3, 7)
        assert file["val_image_idx"][:].tolist() == [0]
        assert file.attrs["source"] == "three examples"
    vocabulary = json.loads((tmp_path / "coco2014_vocab.json").read_text())
    assert vocabulary["idx_to_word"][:5] == ["<pad>", "<start>", "<end>", "<unk>", "a"]
    assert vocabulary["word_to_idx"]["dog"] == 5
    loaded = dataset.read(path)
    assert loaded.vocabulary.fingerprint == data.vocabulary.fingerprint
    for name in dataset.SPLITS:
        ours, theirs = loaded.splits[name], data.splits[name]
        assert np.array_equal(ours.captions, theirs.captions) and np.array_equal(ours.image_rows, theirs.image_rows)
        assert ours.images == theirs.images and tuple(ours.texts) == theirs.texts
    assert dataset.image_names(path, "val") == ("c.jpg",)


def test_captions_stay_in_the_file_until_they_are_asked_for(tmp_path):
    count = 2 * dataset.TEXTS_AT_ONCE + 5
    examples = [Example(f"{number}.jpg", (f"dog {number}",), "train") for number in range(count)]
    path = tmp_path / "captions.h5"
    dataset.write(path, dataset.build_caption_data(examples, DataConfig(max_length=4)), "many")
    split = dataset.read(path).splits["train"]
    assert isinstance(split.captions, np.memmap)
    assert len(split.texts) == count
    for position in (0, count - 1, -1, dataset.TEXTS_AT_ONCE, dataset.TEXTS_AT_ONCE - 1):
        assert split.texts[position] == f"dog {position % count}"
    assert list(split.texts) == [f"dog {number}" for number in range(count)]
    path.write_bytes(b"another file")
    with pytest.raises(CaptionFileError, match="texts cannot be read any more"):
        split.texts[0]


def test_a_data_set_in_the_layout_of_cs231n_is_read(tmp_path):
    with h5py.File(tmp_path / "coco2014_captions.h5", "w") as file:
        file["train_captions"] = np.array([[1, 4, 5, 2, 0]], np.int64)
        file["train_image_idxs"] = np.array([3], np.int64)
    words = ["<NULL>", "<START>", "<END>", "<UNK>", "a", "dog"]
    content = {"idx_to_word": words, "word_to_idx": {word: index for index, word in enumerate(words)}}
    (tmp_path / "coco2014_vocab.json").write_text(json.dumps(content))
    data = dataset.read(tmp_path / "coco2014_captions.h5")
    split = data.splits["train"]
    assert data.vocabulary.decode(split.captions[0]) == "a dog"
    assert split.image_rows.tolist() == [3] and split.images is None and split.texts is None
    with pytest.raises(CaptionFileError, match="does not name the images"):
        dataset.image_names(tmp_path / "coco2014_captions.h5", "train")


def test_files_that_cannot_be_used_are_refused_in_one_line(tmp_path):
    data = dataset.build_caption_data(EXAMPLES, DataConfig())
    dataset.write(tmp_path / "c.h5", data, "")
    with h5py.File(tmp_path / "c.h5", "a") as file:
        file["train_captions"][0, 1] = 99
    (tmp_path / "text.h5").write_text("no")
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file.attrs["vocabulary"] = data.vocabulary.to_json()
    with h5py.File(tmp_path / "bare.h5", "w") as file:
        file["train_captions"] = np.zeros((1, 5), int)
    for name, reason in (
        ("c.h5", "ids outside its vocabulary"),
        ("text.h5", "not a usable"),
        ("empty.h5", "no 'train_captions'"),
        ("bare.h5", "cannot read the vocabulary"),
        ("absent.h5", "no such file"),
    ):
        with pytest.raises(CaptionFileError, match=reason) as error:
            dataset.read(tmp_path / name)
        assert "\n" not in str(error.value) and name[:-3] in str(error.value)


def test_captions_come_from_one_file_or_from_one_for_each_split(tmp_path):
    table = tmp_path / "all.csv"
    table.write_text("file_name,text\n" + "".join(f"{n}.jpg,caption {n}\n" for n in range(20)))
    none = {"train": None, "val": None}
    held_out = dataset.load_examples(table, none, none)
    assert sorted(example.split for example in held_out) == ["train"] * 18 + ["val"] * 2
    other = tmp_path / "other.csv"
    other.write_text("file_name,text,split\na.jpg,a,val\nb.jpg,b,\nc.jpg,c,test\nd.jpg,d,train\n")
    apart = dataset.load_examples(None, {"train": table, "val": other}, none)
    assert [example.split for example in apart] == ["train"] * 20 + ["val"] * 2
    with pytest.raises(ConfigurationError, match="two different ones"):
        dataset.load_examples(None, {"train": table, "val": table}, none)
    partly = dataset.load_examples(other, none, none)
    assert [(example.image, example.split) for example in partly] == [
        ("a.jpg", "val"),
        ("b.jpg", "train"),
        ("d.jpg", "train"),
    ]
    lists = {}
    for split, names in (("train", "1.jpg\n2.jpg\n"), ("val", "3.jpg\n")):
        lists[split] = tmp_path / f"{split}.txt"
        lists[split].write_text(names)
    listed = dataset.load_examples(table, none, lists)
    assert [(example.image, example.split) for example in listed] == [
        ("1.jpg", "train"),
        ("2.jpg", "train"),
        ("3.jpg", "val"),
    ]
    for parts in (none, {"train": None, "val": table}):
        with pytest.raises(ConfigurationError, match="--captions"):
            dataset.load_examples(None, parts, none)


def test_missing_images_stop_unless_they_may_be_left_out(noise_images):
    examples = [Example("00.png", ("a",)), Example("lost.png", ("b",))]
    said = []
    with pytest.raises(CaptionFileError, match=r"1 of 2 captioned images .*lost\.png.*--skip-missing"):
        dataset.with_images(examples, [noise_images], False, said.append)
    assert dataset.with_images(examples, [noise_images], True, said.append) == examples[:1]
    assert any("11 images in" in line and "have no caption" in line for line in said)
    with pytest.raises(CaptionFileError, match="1 of 1"):
        dataset.with_images(examples[1:], [noise_images], True, said.append)
