import re

import numpy as np
import pytest
from PIL import Image

from showtell.data import caption_files as captions
from showtell.data.tutorial import COLOURS, write
from showtell.errors import ConfigurationError

CHROMATIC = [name for name in COLOURS if name not in ("black", "white")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """More pictures than there are combinations of size, colour, shape and background: 384."""
    folder = tmp_path_factory.mktemp("shapes")
    write(folder, images=400)
    return folder


@pytest.fixture(scope="module")
def examples(folder):
    return captions.read_caption_file(folder)


def pixels(folder, example) -> np.ndarray:
    with Image.open(folder / example.image) as image:
        return np.asarray(image).astype(int)


def coloured(picture: np.ndarray, colour: str) -> np.ndarray:
    """The (y, x) of the pixels whose hue is that of a colour; shading changes brightness only."""
    wanted = np.array([COLOURS[name] for name in CHROMATIC], dtype=float)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    nearest = np.argmax(picture @ wanted.T, axis=2)
    return np.argwhere((np.ptp(picture, axis=2) > 60) & (nearest == CHROMATIC.index(colour)))


def test_every_picture_has_two_captions_and_a_split(folder, examples):
    assert len(examples) == 400
    for example in examples:
        plain, longer = example.captions
        assert re.fullmatch(r"a (small|large) \w+ \w+ on a \w+ background", plain)
        assert longer == f"there is {plain}"
        assert pixels(folder, example).shape == (224, 224, 3)
    assert sum(example.split == "val" for example in examples) / 400 == pytest.approx(0.2, abs=0.01)


def test_no_caption_and_no_picture_is_in_both_splits(folder, examples):
    texts, pictures = (
        [{key(example) for example in examples if example.split == split} for split in ("train", "val")]
        for key in (lambda example: example.captions, lambda example: pixels(folder, example).tobytes())
    )
    assert not texts[0] & texts[1]
    assert not pictures[0] & pictures[1]
    assert len(texts[0] | texts[1]) == 384
    assert len(pictures[0] | pictures[1]) == 400


def test_pictures_show_what_their_captions_say(folder, examples):
    for example in examples:
        _, size, colour, _, _, _, background, _ = example.captions[0].split()
        picture = pixels(folder, example)
        uncovered = np.concatenate([picture[:30, :30].ravel(), picture[0].ravel()])  # no shape reaches so far
        assert (len(np.unique(uncovered)) == 1) == (background == "plain")
        if colour in CHROMATIC:
            found = coloured(picture, colour)
            extent = np.ptp(found, axis=0).max()
            assert 40 < extent < 85 if size == "small" else 85 < extent < 180
            assert len(found) > 0.9 * (np.ptp(picture, axis=2) > 60).sum()


def test_shapes_lie_within_their_pictures(folder, examples):
    for example in examples:
        picture = pixels(folder, example)
        edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        assert ((edge >= 165) & (edge <= 205)).all()


def test_relations_are_where_the_captions_say(tmp_path):
    write(tmp_path, images=60, relations=True)
    seen = set()
    for example in captions.read_caption_file(tmp_path):
        match = re.fullmatch(
            r"a \w+ (\w+) \w+ (above|to the left of) a \w+ (\w+) \w+ on a \w+ background", example.captions[0]
        )
        first, relation, second = match.groups()
        if first == second or not {first, second} <= set(CHROMATIC):
            continue
        picture = pixels(tmp_path, example)
        axis = 0 if relation == "above" else 1
        # Where a shape's edge is blended with the background, a pixel may have another's hue: hence not the last ones.
        assert np.quantile(coloured(picture, first), 0.95, axis=0)[axis] < 112
        assert np.quantile(coloured(picture, second), 0.05, axis=0)[axis] > 112
        seen.add(relation)
    assert seen == {"above", "to the left of"}


def test_a_seed_gives_the_same_bytes(tmp_path):
    for name, seed in [("first", 3), ("second", 3), ("other", 4)]:
        write(tmp_path / name, images=8, seed=seed)

    def contents(name):
        root = tmp_path / name
        return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    assert len(contents("first")) == 9
    assert contents("first") == contents("second")
    assert contents("first") != contents("other")


def test_too_few_pictures_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="4 images"):
        write(tmp_path, images=4)
    write(tmp_path, images=5)
    assert [example.split for example in captions.read_caption_file(tmp_path)].count("val") == 1
