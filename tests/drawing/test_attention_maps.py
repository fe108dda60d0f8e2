import numpy as np
import pytest
from helpers import boxes, runs
from PIL import Image

from showtell.drawing.attention_maps import FULL_LIGHT, MAP_SIZE, attention_map
from showtell.errors import ConfigurationError

BLUE = (40, 80, 160)


def panels(drawn: Image.Image, image: Image.Image) -> list[np.ndarray]:
    """Return the image and the panels of a map in reading order, each (H, W, 3): all rectangles of its size."""
    pixels = np.asarray(drawn).astype(int)
    left, top, right, bottom = boxes(drawn, image.getpixel((0, 0)))[0]
    size = right - left, bottom - top
    filled = (pixels < 250).any(axis=2)
    return [
        pixels[top:bottom, left:right]
        for top, bottom in runs(filled.sum(axis=1) >= size[0])
        for left, right in runs(filled[top:bottom].all(axis=0))
        if (right - left, bottom - top) == size
    ]


def one_hot(cell: int, cells: int = 49) -> np.ndarray:
    return np.eye(cells, dtype=np.float32)[cell]


def test_cells_with_attention_are_lit():
    image = Image.new("RGB", (700, 490), BLUE)
    cells = [(0, 0), (3, 3), (1, 5), (6, 2)]
    weights = np.array([one_hot(7 * row + column) for row, column in cells])
    first, *rest = panels(attention_map(image, "a dog runs home", ["a", "dog", "runs", "home"], weights), image)
    assert (first == BLUE).all()
    assert len(rest) == 4
    for panel, (row, column) in zip(rest, cells, strict=True):
        height, width = panel.shape[:2]
        centres = panel[height // 14 :: height // 7, width // 14 :: width // 7][:7, :7].sum(axis=2)
        assert np.unravel_index(centres.argmax(), (7, 7)) == (row, column)
        # Where the attention is, the panel has colour and is as bright as the image. Elsewhere it is dark and grey.
        at = panel[round((row + 0.5) * height / 7), round((column + 0.5) * width / 7)]
        assert (at >= np.array(BLUE) - 6).all() and np.ptp(at) > 60
        away = panel[round((6.5 - row) * height / 7) if row != 3 else 0, 0 if column > 2 else -1]
        assert np.ptp(away) == 0 and away.max() < 40


def test_uniform_attention_is_dim():
    image = Image.new("RGB", (300, 300), BLUE)
    flat, peaked = np.full(49, 1 / 49), one_hot(24)
    mild = np.where(peaked > 0, 2.0, 1.0) / 50  # the middle has almost twice the mean
    weights = np.array([flat, mild, peaked, 1000 * peaked])
    _, *drawn = panels(attention_map(image, "a b c d", list("abcd"), weights), image)
    middle = drawn[0].shape[0] // 2
    assert np.ptp(drawn[0], axis=(0, 1)).max() == 0
    blues = [panel[middle, middle, 2] for panel in drawn]
    assert blues[0] < blues[1] < blues[2] == blues[3]
    # By hand: grey is 77, shaded 23.1. A quarter of the way to 160 is 57.3. A quarter of the glow of 22 adds 4.3.
    assert FULL_LIGHT == 4 and blues[0] == 62


def test_light_is_interpolated_between_cells():
    image = Image.new("RGB", (700, 700), BLUE)
    _, panel = panels(attention_map(image, "dog", ["dog"], one_hot(24)[None]), image)
    line = panel[len(panel) // 2, :, 2]
    peak = int(line.argmax())
    assert abs(peak - len(line) // 2) < len(line) // 50
    assert (np.diff(line[:peak]) >= 0).all() and (np.diff(line[peak + 1 :]) <= 0).all()
    assert np.abs(np.diff(line)).max() < 6


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (900, 90), (60, 900), (1, 1), (3000, 2000)])
@pytest.mark.parametrize("words", [1, 7, 20])
def test_a_map_has_one_panel_per_word_for_any_image_shape(size, words):
    image = Image.new("RGB", size, BLUE)
    drawn = attention_map(image, "w" * 10, ["dog"] * words, np.tile(one_hot(0), (words, 1)))
    found = panels(drawn, image)
    assert len(found) == 1 + words
    height, width = found[0].shape[:2]
    assert width / height == pytest.approx(size[0] / size[1], rel=0.05)
    assert drawn.width <= MAP_SIZE[0] + 200 and drawn.height <= MAP_SIZE[1] + 300
    # Panels of a common shape fill at least a quarter of the sheet.
    if size in ((640, 480), (480, 640), (3000, 2000)):
        assert (1 + words) * width * height > 0.25 * drawn.width * drawn.height


def test_a_map_without_words_shows_the_image():
    image = Image.new("RGB", (64, 48), BLUE)
    assert len(panels(attention_map(image, "", [], np.empty((0, 49), np.float32)), image)) == 1


def test_weights_of_another_shape_are_refused():
    image = Image.new("RGB", (64, 48), BLUE)
    for words, shape in ((["a"], (2, 49)), (["a"], (1, 48)), (["a"], (1, 0))):
        with pytest.raises(ConfigurationError, match="square grid"):
            attention_map(image, "a", words, np.ones(shape))
