"""Text that a terminal shows as it is."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell.utils.text import printable


@pytest.mark.parametrize(
    "text",
    [
        "caf\xe9 \N{DOG FACE}",
        "a\\b",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u72ac\u3000\u732b",
        "a\xa0b",
        "\u200f\u05db\u05dc\u05d1\u200e.jpg",
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",  # the flag of Scotland
    ],
)
def test_letters_spaces_and_invisible_marks_stay(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x1b[2J\x9b1m\x7f\x00", "\\x1b[2J\\x9b1m\\x7f\\x00"),
        ("\u202egpj.exe\u2066", "\\u202egpj.exe\\u2066"),
        (
            "".join(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)])),
            "".join(f"\\u{code:04x}" for code in [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]),
        ),
        ("\u2028\u2029\x85", "\\u2028\\u2029\\x85"),
        ("\udcff\ufeff", "\\udcff\\ufeff"),
    ],
)
def test_other_characters_are_escaped(text, escaped):
    assert printable(text) == escaped


@given(st.text())
def test_no_text_has_more_than_one_line_or_a_control_character(text):
    shown = printable(text)
    assert len(shown.splitlines()) <= 1 and printable(shown) == shown
    assert not {unicodedata.category(letter) for letter in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not {unicodedata.bidirectional(letter) for letter in shown} & {"LRE", "RLE", "LRO", "RLO", "LRI", "RLI"}
