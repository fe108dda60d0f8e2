import numpy as np
import pytest

from showtell.data import CaptionSplit, Example, Features, build_caption_data
from showtell.errors import FeatureError
from showtell.recipe import DataConfig
from showtell.training.batches import Batches, References, TrainingSplit, join
from showtell.vocabulary import PAD, START


def split_of(lengths, width=25):
    captions = np.full((len(lengths), width), PAD, np.int32)
    for row, length in enumerate(lengths):
        captions[row, :length] = 4 + row
        captions[row, 0] = START
    rows = np.arange(len(lengths))
    features = rows[:, None, None].astype(np.float16)
    return TrainingSplit(captions, rows, features, rows, [["x"]] * len(lengths), [str(row) for row in rows])


def listed(batches):
    return [(inputs["features"].ravel().tolist(), targets.shape[1] + 1) for inputs, targets in batches]


def test_every_caption_comes_once_with_its_own_image_in_full_batches():
    split = split_of([5, 9, 12, 5, 20, 7, 8, 5])
    seen = []
    for inputs, targets in Batches(split, 2, seed=3, epoch=0):
        assert inputs["tokens"].shape == targets.shape and len(targets) == 2
        assert (inputs["tokens"][:, 1:] == targets[:, :-1]).all()
        assert inputs["features"].dtype == np.float32
        seen += zip(inputs["features"].ravel().tolist(), (targets[:, 0] - 4).tolist(), strict=True)
    assert sorted(seen) == [(row, row) for row in range(8)]


def test_captions_of_like_length_share_a_batch_no_wider_than_needed():
    split = split_of([3, 24, 4, 25, 2, 23, 4, 22])
    widths = sorted(width for _, width in listed(Batches(split, 4, seed=0, epoch=0)))
    assert widths == [4, 25]


def test_a_batch_that_lacks_captions_takes_some_again():
    batches = Batches(split_of([5, 5, 5]), 2, seed=0, epoch=0)
    rows = [row for batch, _ in listed(batches) for row in batch]
    assert len(batches) == 2 and len(rows) == 4 and set(rows) == {0, 1, 2}


def test_seed_and_epoch_alone_decide_the_order_and_an_epoch_can_be_entered_midway():
    split = split_of([5, 9, 12, 5, 20, 7, 8, 5, 16, 3])
    whole = listed(Batches(split, 2, seed=7, epoch=1))
    assert whole == listed(Batches(split, 2, seed=7, epoch=1))
    assert whole[3:] == listed(Batches(split, 2, seed=7, epoch=1, first=3))
    assert whole != listed(Batches(split, 2, seed=7, epoch=2)) != listed(Batches(split, 2, seed=8, epoch=1))


def test_references_are_read_image_by_image_in_the_order_of_rows():
    asked = []

    def text(position):
        asked.append(position)
        return f"caption {position}"

    references = References(np.array([0, 1, 3, 4, 6]), np.array([7, 2, 7, 2, 5]), text)
    assert len(references) == 3 and not asked
    assert references[2] == ["caption 0", "caption 3"] and asked == [0, 3]
    assert list(references) == [["caption 1", "caption 4"], ["caption 6"], ["caption 0", "caption 3"]]
    assert references[-2] == ["caption 6"]
    with pytest.raises(IndexError):
        references[3]


EXAMPLES = [Example("a.jpg", ("a dog", "the dog"), "train"), Example("b.jpg", ("a cat",), "train")]


def test_captions_and_features_are_joined_by_name():
    data = build_caption_data(EXAMPLES, DataConfig())
    array = np.arange(6, dtype=np.float32).reshape(3, 1, 2)
    split = join(data.splits["train"], Features(array, ("b.jpg", "c.jpg", "a.jpg")), data.vocabulary)
    assert split.feature_rows.tolist() == [2, 2, 0]
    assert split.images == ["b.jpg", "a.jpg"] and list(split.references) == [["a cat"], ["a dog", "the dog"]]


def test_without_names_they_are_joined_by_row():
    data = build_caption_data(EXAMPLES, DataConfig())
    foreign = CaptionSplit(data.splits["train"].captions, np.array([1, 1, 0], np.int32))
    split = join(foreign, Features(np.zeros((2, 1, 3), np.float32)), data.vocabulary)
    assert split.feature_rows.tolist() == [1, 1, 0]
    assert list(split.references) == [["a cat"], ["a dog", "the dog"]]
    with pytest.raises(FeatureError, match="row 1, but the feature file has 1 rows"):
        join(foreign, Features(np.zeros((1, 1, 3), np.float32)), data.vocabulary)


def test_images_without_features_stop_unless_they_may_be_left_out():
    data = build_caption_data(EXAMPLES, DataConfig())
    features = Features(np.zeros((1, 1, 2), np.float32), ("b.jpg",))
    with pytest.raises(FeatureError, match=r"1 of 2 captioned images have no features, a\.jpg first"):
        join(data.splits["train"], features, data.vocabulary)
    assert join(data.splits["train"], features, data.vocabulary, skip_missing=True).images == ["b.jpg"]
    with pytest.raises(FeatureError, match="2 of 2"):
        none = Features(np.zeros((1, 1, 2), np.float32), ("x.jpg",))
        join(data.splits["train"], none, data.vocabulary, skip_missing=True)
