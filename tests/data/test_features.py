import json

import h5py
import numpy as np
import pytest

from showtell.data import Features
from showtell.encoder import EncoderInfo
from showtell.errors import FeatureError, MismatchError
from showtell.images import Preprocess

ENCODER = EncoderInfo("mean_colour", "one", Preprocess(8), cells=1, channels=3)
OTHER_ENCODER = EncoderInfo("mean_colour", "two", Preprocess(8), cells=1, channels=3)


def write_features(path, images, encoder=ENCODER):
    """Write a feature file whose rows contain the character codes of one-letter image names."""
    np.save(path, np.array([[ord(name)] * 3 for name in images], np.float16).reshape(-1, 3))
    description = {"encoder": encoder.to_dict(), "images": list(images), "failed": []}
    path.with_suffix(".json").write_text(json.dumps(description))


def write_shards(folder, *images_of_shard):
    folder.mkdir()
    for number, images in enumerate(images_of_shard):
        write_features(folder / f"{number:05}-of-{len(images_of_shard):05}.npy", images)
    return folder


def test_files_of_other_programs_are_read(tmp_path):
    rows = np.random.default_rng(0).random((5, 7)).astype(np.float32)
    np.save(tmp_path / "tutorial.npy", rows)
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["features"] = rows
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        file.create_dataset("features", data=rows, compression="gzip")
    for name in ("tutorial.npy", "plain.h5", "packed.h5"):
        features = Features.open(tmp_path / name)
        assert features.images is None and features.encoder is None
        assert np.array_equal(features.array[:, 0], rows)
    assert isinstance(Features.open(tmp_path / "plain.h5").array, np.memmap)


def test_damaged_files_are_rejected_in_one_line(tmp_path):
    write_features(tmp_path / "f.npy", "abc")
    assert Features.open(tmp_path / "f.npy").images == ("a", "b", "c")
    description = json.loads((tmp_path / "f.json").read_text())
    for wrong in ("{", json.dumps({}), json.dumps({**description, "images": ["a"]})):
        (tmp_path / "f.json").write_text(wrong)
        with pytest.raises(FeatureError, match=r"f\.npy") as error:
            Features.open(tmp_path / "f.npy")
        assert "\n" not in str(error.value)
    (tmp_path / "g.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "h.h5").write_bytes(b"no")
    np.save(tmp_path / "i.npy", np.array(["text"]))
    for name in ("g.npy", "h.h5", "i.npy", "absent.npy"):
        with pytest.raises(FeatureError):
            Features.open(tmp_path / name)


def test_features_of_different_encoders_are_not_combined():
    with pytest.raises(MismatchError, match=r"a was made with encoder mean_colour one .* b with mean_colour two"):
        ENCODER.require_same(OTHER_ENCODER, "a", "b")


def test_shards_are_read_like_one_file(tmp_path):
    features = Features.open(write_shards(tmp_path / "shards", "ab", "", "cde"))
    assert features.images == tuple("abcde") and features.encoder == ENCODER
    assert features.array.shape == (5, 1, 3) and features.array.dtype == np.float16 and len(features.array) == 5
    rows = np.array([4, 0, 2, 4, 1])
    assert features.array[rows][:, 0, 0].tolist() == [ord(features.images[row]) for row in rows]
    assert features.array[rows].dtype == np.float16 and features.array[np.array([], int)].shape == (0, 1, 3)
    for row in (5, -1):
        with pytest.raises(IndexError):
            features.array[np.array([0, row])]


def test_rows_of_shards_stay_on_disk(tmp_path):
    features = Features.open(write_shards(tmp_path / "shards", "a"))
    path = tmp_path / "shards" / "00000-of-00001.npy"
    with open(path, "r+b") as file:
        file.seek(-6, 2)
        file.write(np.full(3, 7, np.float16).tobytes())
    assert features.array[np.array([0])].ravel().tolist() == [7, 7, 7]


def test_inconsistent_shards_are_rejected(tmp_path):
    folder = write_shards(tmp_path / "shards", "ab", "cd")
    (folder / "00001-of-00002.npy").rename(tmp_path / "away.npy")
    with pytest.raises(FeatureError, match="only 1 of 2 shards exist"):
        Features.open(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FeatureError, match="no feature files"):
        Features.open(tmp_path / "empty")
    (tmp_path / "empty" / "features").mkdir()
    with pytest.raises(FeatureError, match=r"pass .*features"):
        Features.open(tmp_path / "empty")
    with pytest.raises(FeatureError, match="image 'b' occurs twice"):
        Features.open(write_shards(tmp_path / "twice", "ab", "bc"))
    other = write_shards(tmp_path / "other", "ab", "cd")
    write_features(other / "00001-of-00002.npy", "cd", OTHER_ENCODER)
    with pytest.raises(MismatchError, match="different encoders"):
        Features.open(other)
    nameless = write_shards(tmp_path / "nameless", "ab", "cd")
    (nameless / "00000-of-00002.json").unlink()
    with pytest.raises(FeatureError, match=r"no \.json with encoder and images"):
        Features.open(nameless)
