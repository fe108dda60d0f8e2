import numpy as np
import pytest

from showtell.data import Features, FeatureWriter, extract_features
from showtell.encoder import EncoderInfo
from showtell.errors import FeatureError
from showtell.images import Preprocess, list_images


class MeanColour:
    """An encoder with features that are easy to verify. It can stop like a killed process."""

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


def test_rows_are_in_the_order_of_the_images(noise_images, tmp_path):
    images = list_images(noise_images)
    features = extract_features(images, MeanColour(), tmp_path / "f.npy", "float32")
    assert features.images == tuple(f"{number:02}.png" for number in range(12))
    for row, (_, path) in zip(features.array, images, strict=True):
        assert row[0] == pytest.approx(Preprocess(8).load(path).reshape(-1, 3).mean(axis=0), abs=1e-3)
    assert isinstance(features.array, np.memmap) and features.array.shape == (12, 1, 3)
    assert np.load(tmp_path / "f.npy").shape == (12, 3)
    assert Features.open(tmp_path / "f.npy").encoder == MeanColour().info


def test_grid_features_keep_all_cells(noise_images, tmp_path):
    extract_features(list_images(noise_images), MeanColour(cells=4), tmp_path / "f.npy")
    assert np.load(tmp_path / "f.npy").shape == (12, 4, 3)
    assert Features.open(tmp_path / "f.npy").array.dtype == np.float16


def test_an_unreadable_image_is_recorded_and_has_no_row(noise_images, tmp_path):
    (noise_images / "03.png").write_bytes(b"broken")
    features = extract_features(list_images(noise_images), MeanColour(), tmp_path / "f.npy")
    assert len(features.array) == 11 and "03.png" not in features.images
    ((name, reason),) = features.failed
    assert name == "03.png" and "not an image" in reason


def test_an_interrupted_extraction_is_resumed_with_an_identical_result(noise_images, tmp_path):
    (noise_images / "05.png").write_bytes(b"broken")
    whole = extract_features(list_images(noise_images), MeanColour(), tmp_path / "whole.npy")
    with pytest.raises(KeyboardInterrupt):
        extract_features(list_images(noise_images), MeanColour(stop_after=1), tmp_path / "f.npy")
    assert not (tmp_path / "f.npy").exists()
    with pytest.raises(FeatureError, match="the extraction is incomplete"):
        Features.open(tmp_path / "f.npy")
    # A process killed while writing leaves an incomplete row and an incomplete line.
    with open(tmp_path / "f.npy.partial", "ab") as file:
        file.write(b"xyz")
    with open(tmp_path / "f.npy.partial.jsonl", "a") as file:
        file.write('["08.p')
    encoder = MeanColour()
    seen = []
    features = extract_features(
        list_images(noise_images), encoder, tmp_path / "f.npy", progress=lambda done, total: seen.append(done)
    )
    assert 0 < encoder.encoded < 11 and seen[-1] == 12
    assert np.array_equal(features.array, whole.array) and features.images == whole.images
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("f.")) == ["f.json", "f.npy"]


def test_an_interrupted_extraction_with_another_encoder_is_restarted(noise_images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        extract_features(list_images(noise_images), MeanColour(stop_after=1), tmp_path / "f.npy")
    encoder = MeanColour(fingerprint="other")
    extract_features(list_images(noise_images), encoder, tmp_path / "f.npy")
    assert encoder.encoded == 12


def test_a_complete_feature_file_is_reused_and_not_overwritten(noise_images, tmp_path):
    images = list_images(noise_images)
    extract_features(images, MeanColour(), tmp_path / "f.npy")
    again = MeanColour()
    extract_features(images, again, tmp_path / "f.npy")
    assert again.encoded == 0
    for encoder, part, dtype in (
        (MeanColour("b"), images, "float16"),
        (again, images[1:], "float16"),
        (again, images, "float32"),
    ):
        with pytest.raises(FeatureError, match="already exists, with other images"):
            extract_features(part, encoder, tmp_path / "f.npy", dtype)


def test_an_extraction_without_readable_images_is_an_error_and_leaves_no_files(tmp_path):
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(FeatureError, match="none of the 1 images"):
        extract_features(list_images(tmp_path), MeanColour(), tmp_path / "f.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png"]


def test_a_writer_resumes_after_the_last_complete_batch(tmp_path):
    path, encoder = tmp_path / "f.npy", MeanColour(cells=2).info
    rows = np.arange(18, dtype=np.float16).reshape(3, 2, 3)
    with FeatureWriter(path, ["a", "b", "c", "d"], encoder, "float16") as writer:
        assert writer.row_shape == (2, 3)
        writer.write(rows[:2], [None, "broken", None])
    assert not path.exists()
    with FeatureWriter(path, ["a", "b", "c", "d"], encoder, "float16") as writer:
        assert writer.done == 3
        writer.write(rows[2:], [None])
    features = Features.open(path)
    assert features.images == ("a", "c", "d") and features.failed == (("b", "broken"),)
    assert np.array_equal(features.array, rows)


def test_a_description_of_another_file_is_not_overwritten(noise_images, tmp_path):
    (tmp_path / "f.json").write_text("{}")
    with pytest.raises(FeatureError, match=r"f\.json: belongs to another feature file"):
        extract_features(list_images(noise_images), MeanColour(), tmp_path / "f.npy")
    with pytest.raises(FeatureError, match=r"must end in \.npy"):
        extract_features(list_images(noise_images), MeanColour(), tmp_path / "f.h5")
