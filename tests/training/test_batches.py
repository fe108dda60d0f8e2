import numpy as np
import pytest

from showtell.data import CaptionSplit, Example, Features, build_caption_data
from showtell.errors import FeatureError
from showtell.recipe import DataConfig
from showtell.training.batches import Batches, TrainingSplit, join_features
from showtell.vocabulary import PAD, START


def make_split(lengths, width=25):
    """Return a split with one caption per image; the feature of image i is i, and its tokens are 4 + i."""
    captions = np.full((len(lengths), width), PAD, np.int32)
    for row, length in enumerate(lengths):
        captions[row, :length] = 4 + row
        captions[row, 0] = START
    rows = np.arange(len(lengths))
    features = rows[:, None, None].astype(np.float16)
    return TrainingSplit(captions, rows, features, rows, [["x"]] * len(lengths), [str(row) for row in rows])


def list_batches(batches):
    return [(inputs["features"].ravel().tolist(), targets.shape[1] + 1) for inputs, targets in batches]


def test_every_caption_comes_once_with_its_own_image_in_full_batches():
    split = make_split([5, 9, 12, 5, 20, 7, 8, 5])
    pairs = []
    for inputs, targets in Batches(split, 2, seed=3, epoch=0):
        assert inputs["tokens"].shape == targets.shape and len(targets) == 2
        assert (inputs["tokens"][:, 1:] == targets[:, :-1]).all()
        assert inputs["features"].dtype == np.float32
        pairs += zip(inputs["features"].ravel().tolist(), (targets[:, 0] - 4).tolist(), strict=True)
    assert sorted(pairs) == [(row, row) for row in range(8)]


def test_captions_of_similar_length_share_a_batch_without_unnecessary_padding():
    split = make_split([3, 24, 4, 25, 2, 23, 4, 22])
    widths = sorted(width for _, width in list_batches(Batches(split, 4, seed=0, epoch=0)))
    assert widths == [4, 25]


def test_the_last_batch_is_filled_with_captions_from_the_start_of_the_order():
    batches = Batches(make_split([5, 5, 5]), 2, seed=0, epoch=0)
    rows = [row for batch, _ in list_batches(batches) for row in batch]
    assert len(batches) == 2 and len(rows) == 4 and set(rows) == {0, 1, 2}


def test_the_order_depends_on_seed_and_epoch_only_and_an_epoch_can_be_resumed():
    split = make_split([5, 9, 12, 5, 20, 7, 8, 5, 16, 3])
    whole = list_batches(Batches(split, 2, seed=7, epoch=1))
    assert whole == list_batches(Batches(split, 2, seed=7, epoch=1))
    assert whole[3:] == list_batches(Batches(split, 2, seed=7, epoch=1, first=3))
    assert whole != list_batches(Batches(split, 2, seed=7, epoch=2)) != list_batches(Batches(split, 2, seed=8, epoch=1))


EXAMPLES = [Example("a.jpg", ("a dog", "the dog"), "train"), Example("b.jpg", ("a cat",), "train")]


def test_captions_and_features_are_joined_by_name():
    data = build_caption_data(EXAMPLES, DataConfig())
    array = np.arange(6, dtype=np.float32).reshape(3, 1, 2)
    split = join_features(data.splits["train"], Features(array, ("b.jpg", "c.jpg", "a.jpg")), data.vocabulary)
    assert split.feature_rows.tolist() == [2, 2, 0]
    assert split.images == ["b.jpg", "a.jpg"] and split.references == [["a cat"], ["a dog", "the dog"]]


def test_captions_and_features_without_names_are_joined_by_row():
    data = build_caption_data(EXAMPLES, DataConfig())
    nameless = CaptionSplit(data.splits["train"].captions, np.array([1, 1, 0], np.int32))
    split = join_features(nameless, Features(np.zeros((2, 1, 3), np.float32)), data.vocabulary)
    assert split.feature_rows.tolist() == [1, 1, 0]
    assert split.references == [["a cat"], ["a dog", "the dog"]]
    with pytest.raises(FeatureError, match="image row 1, but the feature file has 1 rows"):
        join_features(nameless, Features(np.zeros((1, 1, 3), np.float32)), data.vocabulary)


def test_images_without_features_are_an_error_unless_they_may_be_skipped():
    data = build_caption_data(EXAMPLES, DataConfig())
    features = Features(np.zeros((1, 1, 2), np.float32), ("b.jpg",))
    with pytest.raises(FeatureError, match=r"1 of 2 captioned images have no features, for example a\.jpg"):
        join_features(data.splits["train"], features, data.vocabulary)
    split = join_features(data.splits["train"], features, data.vocabulary, skip_missing=True)
    assert split.images == ["b.jpg"] and split.references == [["a cat"]]
    with pytest.raises(FeatureError, match="2 of 2"):
        others = Features(np.zeros((1, 1, 2), np.float32), ("x.jpg",))
        join_features(data.splits["train"], others, data.vocabulary, skip_missing=True)


def test_a_part_of_a_split_has_the_captions_of_the_selected_images():
    data = build_caption_data(EXAMPLES, DataConfig())
    features = Features(np.zeros((2, 1, 2), np.float32), ("a.jpg", "b.jpg"))
    split = join_features(data.splits["train"], features, data.vocabulary).select_images(np.array([0]))
    assert split.images == ["a.jpg"] and split.references == [["a dog", "the dog"]] and len(split.captions) == 2
