import logging
import random

import pytest

from showtell.data import Example, load_examples, match_images, read_split, select_with_images, split_holdout
from showtell.data.splits import with_split
from showtell.errors import CaptionFileError, ConfigurationError, ImageError


def test_with_split_accepts_common_names():
    examples = [Example("a.jpg", ("A",)), Example("b.jpg", ("B", "C"), "train")]
    assert with_split(examples, "dev") == [Example("a.jpg", ("A",), "val"), Example("b.jpg", ("B", "C"), "val")]
    with pytest.raises(ConfigurationError, match="unknown split 'all'"):
        with_split(examples, "all")


def held_out_images(examples, **options):
    return {example.image for example in split_holdout(examples, **options) if example.split == "val"}


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(0, 0.1, 0), (1, 0.9, 0), (2, 0.1, 1), (2, 0.9, 1), (3, 0.01, 1), (20, 0.1, 2), (20, 0.25, 5), (1000, 0.1, 100)],
)
def test_holdout_has_the_requested_share_and_both_splits_are_used(count, share, expected):
    examples = [Example(f"{number}.jpg", ("A",)) for number in range(count)]
    divided = split_holdout(examples, share=share)
    assert [example.image for example in divided] == [example.image for example in examples]
    assert sum(example.split == "val" for example in divided) == expected
    assert sum(example.split == "train" for example in divided) == count - expected


def test_holdout_takes_the_images_with_the_smallest_sha256():
    # printf a.jpg | sha256sum: a 509b.., b 7a11.., c 92b3.., d 53e7..
    examples = [Example(f"{name}.jpg", ("A",)) for name in "abcd"]
    assert held_out_images(examples, share=0.5) == {"a.jpg", "d.jpg"}


def test_holdout_depends_on_names_and_is_stable_when_the_data_set_grows():
    examples = [Example(f"{number}.jpg", ("A",)) for number in range(1000)]
    shuffled = random.Random(0).sample(examples, 1000)
    assert held_out_images(shuffled) == held_out_images(examples)
    assert len(held_out_images(examples) & held_out_images(examples[:900])) >= 80


def test_holdout_rejects_examples_with_splits_and_invalid_shares():
    examples = [Example("a.jpg", ("A",)), Example("b.jpg", ("B",), "train")]
    with pytest.raises(ConfigurationError, match="already have a split"):
        split_holdout(examples)
    for share in (0, 1, -0.1, float("nan")):
        with pytest.raises(ConfigurationError, match="above 0 and below 1"):
            split_holdout(examples[:1], share=share)


def test_examples_come_from_one_file_or_one_file_per_split(tmp_path):
    table = tmp_path / "all.csv"
    table.write_text("file_name,text\n" + "".join(f"{n}.jpg,caption {n}\n" for n in range(20)))
    assert sorted(example.split for example in load_examples(table)) == ["train"] * 18 + ["val"] * 2
    other = tmp_path / "other.csv"
    other.write_text("file_name,text,split\na.jpg,a,val\nb.jpg,b,\nc.jpg,c,test\nd.jpg,d,train\n")
    separate = load_examples(None, {"train": table, "val": other})
    assert [example.split for example in separate] == ["train"] * 20 + ["val"] * 2
    with pytest.raises(ConfigurationError, match="two different caption files"):
        load_examples(None, {"train": table, "val": table})
    partial = load_examples(other, {"train": None, "val": None})
    assert [(example.image, example.split) for example in partial] == [
        ("a.jpg", "val"),
        ("b.jpg", "train"),
        ("d.jpg", "train"),
    ]
    lists = {}
    for split, names in (("train", "1.jpg\n2.jpg\n"), ("val", "3.jpg\n")):
        lists[split] = tmp_path / f"{split}.txt"
        lists[split].write_text(names)
    listed = load_examples(table, image_lists=lists)
    assert [(example.image, example.split) for example in listed] == [
        ("1.jpg", "train"),
        ("2.jpg", "train"),
        ("3.jpg", "val"),
    ]
    for split_files in ({}, {"train": None, "val": table}):
        with pytest.raises(ConfigurationError, match="--captions"):
            load_examples(None, split_files)


def test_match_images_compares_exact_relative_paths(tmp_path):
    for name in ("a.jpg", "train/b.JPG", "train/spare.png", "spare.jpg", "notes.txt", ".hidden.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    examples = [
        Example(name, ("A",)) for name in ("train/b.JPG", "gone.jpg", "a.jpg", "train/a.jpg", "b.JPG", "spare.JPG")
    ]
    match = match_images(examples, tmp_path / "images")
    assert match.found == (examples[0], examples[2])
    assert match.missing == ("gone.jpg", "train/a.jpg", "b.JPG", "spare.JPG")
    assert match.uncaptioned == ("spare.jpg", "train/spare.png")
    with pytest.raises(ImageError, match="absent': no such image folder"):
        match_images(examples, tmp_path / "absent")


def test_missing_images_are_an_error_or_skipped_on_request(noise_images, caplog):
    caplog.set_level(logging.INFO, "showtell")
    examples = [Example("00.png", ("a",)), Example("lost.png", ("b",))]
    with pytest.raises(CaptionFileError, match=r"1 of 2 captioned images .*lost\.png.*--skip-missing"):
        select_with_images(examples, [noise_images], skip_missing=False)
    assert select_with_images(examples, [noise_images], skip_missing=True) == examples[:1]
    warning, information = caplog.records
    assert warning.levelno == logging.WARNING and "1 of 2 captioned images" in warning.getMessage()
    assert information.levelno == logging.INFO and "11 images in" in information.getMessage()
    with pytest.raises(CaptionFileError, match="1 of 1"):
        select_with_images(examples[1:], [noise_images], skip_missing=True)


def test_a_folder_that_is_part_of_the_image_names_gets_a_hint(noise_images):
    examples = [Example(f"{noise_images.name}/00.png", ("a",))]
    with pytest.raises(CaptionFileError, match="so pass its parent folder"):
        select_with_images(examples, [noise_images], skip_missing=False)


def test_split_is_read_by_either_name(tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text("file_name,text,split\na.jpg,a dog,train\nb.jpg,a cat,val\n")
    for split, images in {"dev": ["b.jpg"], "val": ["b.jpg"], "train": ["a.jpg"], "all": ["a.jpg", "b.jpg"]}.items():
        assert [example.image for example in read_split(table, split)] == images
    with pytest.raises(ConfigurationError, match=r"captions\.csv: no captions in split 'test'; available splits: "):
        read_split(table, "test")


def test_missing_splits_are_assigned_as_in_training(tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text("file_name,text\n" + "".join(f"{number}.jpg,a dog\n" for number in range(20)))
    validation = {example.image for example in read_split(table, "dev")}
    training = {example.image for example in read_split(table, "train")}
    assert len(validation) == 2 and len(training) == 18 and not validation & training
