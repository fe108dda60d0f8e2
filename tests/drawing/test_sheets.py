import numpy as np
import pytest
from helpers import boxes, runs
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from showtell.drawing import Panel, contact_sheet, draw_title, panel_sheet
from showtell.drawing.titles import MAX_SIDE, MIN_WIDTH
from showtell.errors import ConfigurationError

RED, GREEN = (255, 0, 0), (0, 128, 0)
LONG = "a group of people standing around a table with food and drinks on it in a large kitchen"


def ink(image: Image.Image) -> np.ndarray:
    """Return a mask of the text: grey or dark pixels."""
    pixels = np.asarray(image.convert("RGB")).astype(int)
    return (pixels.max(axis=2) < 200) & (np.ptp(pixels, axis=2) < 40)


def test_the_title_does_not_touch_the_image():
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    drawn = np.asarray(draw_title(Image.fromarray(noise), "a dog on a beach"))
    assert drawn.shape[1] == 640
    assert (drawn[-480:] == noise).all()
    assert (drawn[:-480].min(axis=2) < 100).any()


def test_a_long_title_is_wrapped_within_margins():
    image = Image.new("RGB", (640, 10), RED)
    short, long = draw_title(image, "a dog"), draw_title(image, LONG)
    lines = runs(ink(long)[:-10].any(axis=1))
    assert len(runs(ink(short)[:-10].any(axis=1))) == 1
    assert len(lines) == 2
    columns = np.flatnonzero(ink(long)[:-10].any(axis=0))
    assert columns[0] >= 12
    assert columns[-1] < 640 - 12
    # Balanced lines: the second has more than one word.
    widths = [np.ptp(np.flatnonzero(ink(long)[top:bottom].any(axis=0))) for top, bottom in lines]
    assert min(widths) > 0.7 * max(widths)


def test_text_without_spaces_is_wrapped_into_even_lines():
    drawn = ink(draw_title(Image.new("RGB", (480, 10), RED), "w" * 50))[:-10]
    widths = [np.ptp(np.flatnonzero(drawn[top:bottom].any(axis=0))) for top, bottom in runs(drawn.any(axis=1))]
    assert len(widths) == 2 and min(widths) > 0.9 * max(widths)


@pytest.mark.parametrize(
    ("size", "image_box"),
    [
        ((600, 300), (0, 600, 300)),
        ((48, 24), (0, 480, 240)),
        ((2560, 1920), (0, 1280, 960)),
        ((100, 1600), (200, 280, 1280)),  # at a width of 480 it would be 7,680 high
    ],
)
def test_titled_images_have_a_bounded_size(size, image_box):
    drawn = draw_title(Image.new("RGB", size, RED), "a dog")
    left, _, right, bottom = boxes(drawn, RED)[0]
    top = bottom - image_box[2]
    assert (left, right) == image_box[:2]
    assert bottom == drawn.height
    assert boxes(drawn, RED)[0][1] == top


@settings(deadline=None, max_examples=40)
@given(st.tuples(st.integers(1, 1500), st.integers(1, 1500)), st.text(max_size=120))
@example((640, 480), "\ud800 \x00 漢字 مرحبا 👩‍👧")
@example((1, 1), "")
@example((300, 200), "w" * 2000)
def test_any_caption_can_be_drawn(size, caption):
    drawn = draw_title(Image.new("RGB", size, RED), caption)
    sheet = contact_sheet([Image.new("RGB", size, RED)], [caption])
    assert MIN_WIDTH <= drawn.width <= MAX_SIDE
    assert not ink(drawn)[:, [0, -1]].any()
    assert not ink(sheet)[:, [0, -1]].any()


@pytest.mark.parametrize(
    ("count", "rows"),
    [(1, [1]), (2, [2]), (3, [3]), (5, [3, 2]), (6, [3, 3]), (24, [6, 6, 6, 6]), (32, [7, 7, 7, 7, 4])],
)
def test_a_contact_sheet_has_the_expected_number_of_rows(count, rows):
    sheet = contact_sheet([Image.new("RGB", (64, 48), RED)] * count, [f"image {n}" for n in range(count)])
    found = boxes(sheet, RED)
    tops = [top for _, top, _, _ in found]
    assert [tops.count(top) for top in sorted(set(tops))] == rows
    assert len({(right - left, bottom - top) for left, top, right, bottom in found}) == 1
    # The margins at the left and the right, and the gutters between, are equal.
    first_row = found[: rows[0]]
    edges = [0, *(x for left, _, right, _ in first_row for x in (left, right)), sheet.width]
    assert len({right - left for left, right in zip(edges[::2], edges[1::2], strict=True)}) == 1


def test_thumbnails_keep_their_aspect_ratio_and_align_at_the_bottom():
    images = [Image.new("RGB", size, RED) for size in [(640, 480), (480, 640), (320, 240)]]
    found = boxes(contact_sheet(images, ["a", "b", "c"]), RED)
    assert [round((right - left) / (bottom - top), 1) for left, top, right, bottom in found] == [1.3, 0.8, 1.3]
    assert len({bottom for *_, bottom in found}) == 1


def test_captions_are_complete_and_below_their_images():
    images = [Image.new("RGB", (64, 48), colour) for colour in (RED, GREEN)]
    sheet = contact_sheet(images, [LONG, "a dog"])
    lines = []
    for colour in (RED, GREEN):
        left, _, right, bottom = boxes(sheet, colour)[0]
        below = ink(sheet)[bottom:, left:right]
        lines.append(runs(below.any(axis=1)))
        outside = ink(sheet)[:, right : right + 24]
        assert not outside.any()
    assert [len(found) for found in lines] == [2, 1]
    assert sheet.height - (bottom + lines[0][-1][1]) >= 24


def test_a_sheet_needs_images_and_equal_numbers_of_captions():
    image = Image.new("RGB", (4, 4))
    with pytest.raises(ConfigurationError, match="0 images"):
        contact_sheet([], [])
    with pytest.raises(ConfigurationError, match="1 image and 2 captions"):
        contact_sheet([image], ["a", "b"])


def test_a_panel_sheet_has_a_row_per_group_and_text_below_each_image():
    red, green = Image.new("RGB", (400, 300), RED), Image.new("RGB", (400, 300), GREEN)
    remarks = ["CIDEr 12.0", LONG, "a dog"]
    sheet = panel_sheet({"best": [Panel(red, "a dog", remarks), Panel(red, "a cat")], "worst": [Panel(green, LONG)]})
    (first, top, _, bottom), (second, *_) = boxes(sheet, RED)
    [(left, lower, right, low)] = boxes(sheet, GREEN)
    assert first < left < second < right and lower > bottom
    drawn = ink(sheet)
    assert len(runs(drawn[:top].any(axis=1))) == 1  # the heading
    # Caption, first remark, the long one in two or more lines, the last; then the next heading.
    assert len(runs(drawn[bottom:lower, : sheet.width // 2 - 60].any(axis=1))) >= 5
    assert drawn[low:].any() and not drawn[-8:].any()


@pytest.mark.parametrize("groups", [{}, {"best": []}])
def test_a_panel_sheet_needs_panels(groups):
    with pytest.raises(ConfigurationError, match="at least one"):
        panel_sheet(groups)
