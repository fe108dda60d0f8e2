import re

import numpy as np
import pytest
from PIL import Image

from showtell.data import read_caption_file, write_tutorial_data
from showtell.data.tutorial import COLOURS
from showtell.errors import ConfigurationError

CHROMATIC = [name for name in COLOURS if name not in ("black", "white")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """More images than the 384 combinations of size, colour, shape and background."""
    folder = tmp_path_factory.mktemp("shapes")
    write_tutorial_data(folder, images=400)
    return folder


@pytest.fixture(scope="module")
def examples(folder):
    return read_caption_file(folder)


def pixels(folder, example) -> np.ndarray:
    with Image.open(folder / example.image) as image:
        return np.asarray(image).astype(int)


def coloured(image: np.ndarray, colour: str) -> np.ndarray:
    """Return the (y, x) of pixels with the hue of a colour. Shading changes the brightness only."""
    palette = np.array([COLOURS[name] for name in CHROMATIC], dtype=float)
    palette /= np.linalg.norm(palette, axis=1, keepdims=True)
    nearest = np.argmax(image @ palette.T, axis=2)
    return np.argwhere((np.ptp(image, axis=2) > 60) & (nearest == CHROMATIC.index(colour)))


def test_every_image_has_two_captions_and_a_split(folder, examples):
    assert len(examples) == 400
    for example in examples:
        plain, longer = example.captions
        assert re.fullmatch(r"a (small|large) \w+ \w+ on a \w+ background", plain)
        assert longer == f"there is {plain}"
        assert pixels(folder, example).shape == (224, 224, 3)
    assert sum(example.split == "val" for example in examples) / 400 == pytest.approx(0.2, abs=0.01)


def test_no_caption_and_no_image_is_in_both_splits(folder, examples):
    captions, images = (
        [{key(example) for example in examples if example.split == split} for split in ("train", "val")]
        for key in (lambda example: example.captions, lambda example: pixels(folder, example).tobytes())
    )
    assert not captions[0] & captions[1]
    assert not images[0] & images[1]
    assert len(captions[0] | captions[1]) == 384
    assert len(images[0] | images[1]) == 400


def test_images_match_their_captions(folder, examples):
    for example in examples:
        _, size, colour, _, _, _, background, _ = example.captions[0].split()
        image = pixels(folder, example)
        uncovered = np.concatenate([image[:30, :30].ravel(), image[0].ravel()])  # never covered by a shape
        assert (len(np.unique(uncovered)) == 1) == (background == "plain")
        if colour in CHROMATIC:
            found = coloured(image, colour)
            extent = np.ptp(found, axis=0).max()
            assert 40 < extent < 85 if size == "small" else 85 < extent < 180
            assert len(found) > 0.9 * (np.ptp(image, axis=2) > 60).sum()


def test_shapes_are_inside_the_image(folder, examples):
    for example in examples:
        image = pixels(folder, example)
        edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert ((edge >= 165) & (edge <= 205)).all()


def test_relations_match_the_captions(tmp_path):
    write_tutorial_data(tmp_path, images=60, relations=True)
    seen = set()
    for example in read_caption_file(tmp_path):
        match = re.fullmatch(
            r"a \w+ (\w+) \w+ (above|to the left of) a \w+ (\w+) \w+ on a \w+ background", example.captions[0]
        )
        first, relation, second = match.groups()
        if first == second or not {first, second} <= set(CHROMATIC):
            continue
        image = pixels(tmp_path, example)
        axis = 0 if relation == "above" else 1
        # Pixels on the edge of a shape are blended and may have another hue, so the outermost ones are ignored.
        assert np.quantile(coloured(image, first), 0.95, axis=0)[axis] < 112
        assert np.quantile(coloured(image, second), 0.05, axis=0)[axis] > 112
        seen.add(relation)
    assert seen == {"above", "to the left of"}


def test_the_same_seed_creates_identical_files(tmp_path):
    for name, seed in [("first", 3), ("second", 3), ("other", 4)]:
        write_tutorial_data(tmp_path / name, images=8, seed=seed)

    def contents(name):
        root = tmp_path / name
        return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    assert len(contents("first")) == 9
    assert contents("first") == contents("second")
    assert contents("first") != contents("other")


def test_an_interrupted_run_is_completed_and_other_files_stay(tmp_path):
    write_tutorial_data(tmp_path, images=5)
    contents = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    for name in ("images/0003.png", "metadata.csv"):
        (tmp_path / name).unlink()
    write_tutorial_data(tmp_path, images=5)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == contents
    for name in ("images/0003.png", "metadata.csv"):
        (tmp_path / name).write_bytes(b"mine")
        with pytest.raises(
            ConfigurationError, match=f"{name}: already exists with different content; choose a new folder"
        ):
            write_tutorial_data(tmp_path, images=5)
        assert (tmp_path / name).read_bytes() == b"mine"
        (tmp_path / name).unlink()


def test_too_few_images_are_rejected(tmp_path):
    with pytest.raises(ConfigurationError, match="4 images are too few"):
        write_tutorial_data(tmp_path, images=4)
    write_tutorial_data(tmp_path, images=5)
    assert [example.split for example in read_caption_file(tmp_path)].count("val") == 1
