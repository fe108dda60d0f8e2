import json

import h5py
import numpy as np
import pytest

from showtell.data.features import Features, extract
from showtell.encoder import EncoderInfo
from showtell.errors import FeatureError, MismatchError
from showtell.images import Preprocess, list_images


class MeanColour:
    """An encoder whose features can be worked out by hand; it can be made to stop like a killed process."""

    def __init__(self, fingerprint="mean", cells=1, stop_after=None):
        self.info = EncoderInfo("mean_colour", fingerprint, Preprocess(8), cells, 3)
        self.encoded = 0
        self.stop_after = stop_after

    def encode(self, images):
        if self.stop_after is not None and self.encoded >= self.stop_after:
            raise KeyboardInterrupt
        self.encoded += len(images)
        means = images.reshape(len(images), -1, 3).mean(axis=1, dtype=np.float32)
        return np.repeat(means[:, None], self.info.cells, axis=1)


def test_row_i_belongs_to_image_i(noise_images, tmp_path):
    images = list_images(noise_images)
    features = extract(images, MeanColour(), tmp_path / "f.npy", "float32")
    assert features.images == tuple(f"{number:02}.png" for number in range(12))
    for row, (_, path) in zip(features.array, images, strict=True):
        assert row[0] == pytest.approx(Preprocess(8).load(path).reshape(-1, 3).mean(axis=0), abs=1e-3)
    assert isinstance(features.array, np.memmap) and features.array.shape == (12, 1, 3)
    assert np.load(tmp_path / "f.npy").shape == (12, 3)
    assert Features.open(tmp_path / "f.npy").encoder == MeanColour().info


def test_a_grid_keeps_its_cells(noise_images, tmp_path):
    extract(list_images(noise_images), MeanColour(cells=4), tmp_path / "f.npy")
    assert np.load(tmp_path / "f.npy").shape == (12, 4, 3)
    assert Features.open(tmp_path / "f.npy").array.dtype == np.float16


def test_an_unreadable_image_is_named_and_has_no_row(noise_images, tmp_path):
    (noise_images / "03.png").write_bytes(b"broken")
    features = extract(list_images(noise_images), MeanColour(), tmp_path / "f.npy")
    assert len(features.array) == 11 and "03.png" not in features.images
    ((name, reason),) = features.failed
    assert name == "03.png" and "not an image" in reason


def test_an_interrupted_extraction_goes_on_and_ends_the_same(noise_images, tmp_path):
    (noise_images / "05.png").write_bytes(b"broken")
    whole = extract(list_images(noise_images), MeanColour(), tmp_path / "whole.npy")
    with pytest.raises(KeyboardInterrupt):
        extract(list_images(noise_images), MeanColour(stop_after=1), tmp_path / "f.npy")
    assert not (tmp_path / "f.npy").exists()
    with pytest.raises(FeatureError, match="unfinished extraction"):
        Features.open(tmp_path / "f.npy")
    # What a kill in the middle of writing leaves: half a row, and half a line.
    with open(tmp_path / "f.npy.partial", "ab") as file:
        file.write(b"xyz")
    with open(tmp_path / "f.npy.partial.jsonl", "a") as file:
        file.write('["08.p')
    encoder = MeanColour()
    seen = []
    features = extract(
        list_images(noise_images), encoder, tmp_path / "f.npy", progress=lambda done, total: seen.append(done)
    )
    assert 0 < encoder.encoded < 11 and seen[-1] == 12
    assert np.array_equal(features.array, whole.array) and features.images == whole.images
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("f.")) == ["f.json", "f.npy"]


def test_an_interrupted_extraction_with_another_encoder_begins_anew(noise_images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        extract(list_images(noise_images), MeanColour(stop_after=1), tmp_path / "f.npy")
    encoder = MeanColour(fingerprint="other")
    extract(list_images(noise_images), encoder, tmp_path / "f.npy")
    assert encoder.encoded == 12


def test_a_finished_file_is_not_made_again_nor_overwritten(noise_images, tmp_path):
    images = list_images(noise_images)
    extract(images, MeanColour(), tmp_path / "f.npy")
    again = MeanColour()
    extract(images, again, tmp_path / "f.npy")
    assert again.encoded == 0
    for other, part, dtype in (
        (MeanColour("b"), images, "float16"),
        (again, images[1:], "float16"),
        (again, images, "float32"),
    ):
        with pytest.raises(FeatureError, match="give another name, or remove it"):
            extract(part, other, tmp_path / "f.npy", dtype)


def test_no_readable_image_at_all_is_an_error_that_leaves_nothing(tmp_path):
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(FeatureError, match="none of the 1 images"):
        extract(list_images(tmp_path), MeanColour(), tmp_path / "f.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png"]


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


def test_damaged_files_are_refused_in_one_line(noise_images, tmp_path):
    extract(list_images(noise_images), MeanColour(), tmp_path / "f.npy")
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


def test_features_of_two_encoders_are_not_joined():
    with pytest.raises(MismatchError, match=r"a was made with encoder mean_colour one .* b with mean_colour two"):
        MeanColour("one").info.require_same(MeanColour("two").info, "a", "b")


def shards_of(folder, *names):
    folder.mkdir()
    for number, images in enumerate(names):
        path = folder / f"{number:05}-of-{len(names):05}.npy"
        np.save(path, np.array([[ord(name)] * 3 for name in images], np.float16).reshape(-1, 3))
        description = {"encoder": MeanColour().info.to_dict(), "images": list(images), "failed": []}
        path.with_suffix(".json").write_text(json.dumps(description))
    return folder


def test_shards_are_read_as_one(tmp_path):
    features = Features.open(shards_of(tmp_path / "shards", "ab", "", "cde"))
    assert features.images == tuple("abcde") and features.encoder == MeanColour().info
    assert features.array.shape == (5, 1, 3) and features.array.dtype == np.float16 and len(features.array) == 5
    rows = np.array([4, 0, 2, 4, 1])
    assert features.array[rows][:, 0, 0].tolist() == [ord(features.images[row]) for row in rows]
    assert features.array[rows].dtype == np.float16 and features.array[np.array([], int)].shape == (0, 1, 3)
    for outside in (5, -1):
        with pytest.raises(IndexError):
            features.array[np.array([0, outside])]


def test_rows_of_shards_stay_on_disk(tmp_path):
    features = Features.open(shards_of(tmp_path / "shards", "a"))
    path = tmp_path / "shards" / "00000-of-00001.npy"
    with open(path, "r+b") as file:
        file.seek(-6, 2)
        file.write(np.full(3, 7, np.float16).tobytes())
    assert features.array[np.array([0])].ravel().tolist() == [7, 7, 7]


def test_shards_that_do_not_make_one_whole_are_refused(tmp_path):
    folder = shards_of(tmp_path / "shards", "ab", "cd")
    (folder / "00001-of-00002.npy").rename(tmp_path / "away.npy")
    with pytest.raises(FeatureError, match="1 of 2 shards are there"):
        Features.open(folder)
    with pytest.raises(FeatureError, match="no feature files"):
        (tmp_path / "empty").mkdir()
        Features.open(tmp_path / "empty")
    with pytest.raises(FeatureError, match="features of 'b' are there twice"):
        Features.open(shards_of(tmp_path / "twice", "ab", "bc"))
    other = shards_of(tmp_path / "other", "ab", "cd")
    description = {"encoder": MeanColour("other").info.to_dict(), "images": ["c", "d"], "failed": []}
    (other / "00001-of-00002.json").write_text(json.dumps(description))
    with pytest.raises(MismatchError, match="features of two encoders"):
        Features.open(other)
    nameless = shards_of(tmp_path / "nameless", "ab", "cd")
    (nameless / "00000-of-00002.json").unlink()
    with pytest.raises(FeatureError, match="does not say what it is of"):
        Features.open(nameless)
