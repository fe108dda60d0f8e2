import numpy as np
import pytest
from helpers import EXAMPLES
from PIL import Image, ImageDraw, ImageFont, features

from showtell.drawing import contact_sheet, draw_title
from showtell.drawing.fonts import BUILT_IN, SYSTEM_FONTS, Fonts, _missing_characters
from showtell.errors import ConfigurationError

PHOTO = EXAMPLES / "000000126107.jpg"
CHINESE, ARABIC, HEBREW, GERMAN = "一只红色的圆", "دائرة حمراء", "עברית", "Ein großer, grüner Käfer"


def font_with(text):
    for name in SYSTEM_FONTS:
        if not _missing_characters(name, text):
            return name
    pytest.skip(f"this system has no font with the letters of {text!r}")


def test_the_built_in_font_is_for_english_only():
    assert _missing_characters(BUILT_IN, 'A dog\'s 3 "bones", (50 %) – all of them!\t\n') == ["–"]  # noqa: RUF001
    assert _missing_characters(BUILT_IN, CHINESE + CHINESE) == list(CHINESE)
    assert Fonts().choose("a dog", 20).getname()[0] == "Aileron" and Fonts().choose("", 20).getname()[0] == "Aileron"


@pytest.mark.parametrize("text", [ARABIC, HEBREW, GERMAN, CHINESE])
def test_a_text_gets_a_font_with_its_characters(text):
    font_with(text)
    fonts = Fonts()
    font = fonts.choose(text, 20)
    assert font.getname()[0] != "Aileron" and not any("characters" in note for note in fonts.notes)
    # Every character looks different; boxes would look the same.
    assert len({bytes(font.getmask(letter)) for letter in set(text) - {" "}}) == len(set(text) - {" "})


def test_missing_characters_are_reported_once():
    name = font_with(GERMAN)
    fonts = Fonts(name)
    for text in (GERMAN, "\U00012000\U00012001", "\U00012001 \U00012000"):  # cuneiform
        fonts.choose(text, 20)
    [note] = fonts.notes
    assert note.startswith(f"the font {name} lacks the characters \U00012000 \U00012001;")


@pytest.mark.skipif(not features.check("raqm"), reason="this Pillow has no Raqm")
def test_right_to_left_text_is_drawn_from_the_right():
    font_with(HEBREW)

    def weights(font):
        image = Image.new("L", (300, 80), 255)
        ImageDraw.Draw(image).text((10, 10), "םייי", font=font, fill=0)  # one large character, then small ones
        ink = (255 - np.asarray(image, np.float64)).sum(axis=0)
        columns = np.flatnonzero(ink)
        left, right = np.array_split(ink[columns[0] : columns[-1] + 1], 2)
        return left.sum(), right.sum()

    font = Fonts().choose("םייי", 32)
    left, right = weights(font)
    assert right > 1.2 * left
    left, right = weights(ImageFont.truetype(font.path, 32, layout_engine=ImageFont.Layout.BASIC))
    assert left > 1.2 * right


def test_without_raqm_right_to_left_text_is_reported(monkeypatch):
    monkeypatch.setattr(features, "check", lambda feature: False)
    fonts = Fonts()
    fonts.choose("a dog", 20)
    assert fonts.notes == []
    fonts.choose(HEBREW, 20)
    assert any("Raqm" in note and "right-to-left" in note for note in fonts.notes)


def test_images_use_the_chosen_font():
    image = Image.new("RGB", (400, 300), "red")
    chosen = Fonts(font_with("a dog"))
    assert draw_title(image, "a dog", chosen).tobytes() != draw_title(image, "a dog").tobytes()
    sheets = [contact_sheet([image], ["a dog"], fonts).tobytes() for fonts in (chosen, None)]
    assert sheets[0] != sheets[1]


def test_a_file_that_is_not_a_font_is_refused(tmp_path):
    (tmp_path / "font.ttf").write_bytes(b"no")
    with pytest.raises(ConfigurationError, match=r"font\.ttf: not a readable font"):
        Fonts(tmp_path / "font.ttf")
    with pytest.raises(ConfigurationError, match=r"absent\.ttf: no such font"):
        Fonts(tmp_path / "absent.ttf")


def test_the_font_option_chooses_the_font(showtell, tmp_path, looking_bundle):
    refused = showtell("caption", PHOTO, "--font", "DejaVuSans.ttf", status=2)
    assert "--font has no effect without --annotate" in refused.stderr
    refused = showtell("caption", PHOTO, "--annotate", tmp_path / "out", "--font", PHOTO, status=2)
    assert refused.stderr.startswith(f"error: {PHOTO}: not a readable font") and not (tmp_path / "out").exists()
    name = font_with("a dog")
    arguments = ["caption", PHOTO, "--model", looking_bundle]
    for folder, font in (("plain", []), ("chosen", ["--font", name])):
        showtell(*arguments, "--annotate", tmp_path / folder, "--attention", tmp_path / f"{folder}-maps", *font)
    for kind in ("", "-maps"):
        plain, chosen = (tmp_path / f"{folder}{kind}" / PHOTO.name for folder in ("plain", "chosen"))
        assert plain.read_bytes() != chosen.read_bytes()
