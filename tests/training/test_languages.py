"""Training on captions in Chinese, Arabic and German with the command line."""

import csv
import json
import logging
import re
import unicodedata
from itertools import product

import pytest

from showtell.cli import app
from showtell.data.tutorial import BACKGROUNDS, COLOURS, RADII, SHAPES, write_tutorial_data
from showtell.inference.bundle import Bundle

SMALL = ["--embedding-size", 32, "--units", 64, "--batch-size", 8, "--learning-rate", 0.01, "--dropout", 0]
SHORT = ["--epochs", 50, "--sample-every", 1000, "--checkpoint-every", 1000]


def chinese(size, colour, shape, background):
    sizes = {"small": "小", "large": "大"}
    colours = {"red": "红", "orange": "橙", "yellow": "黄", "green": "绿", "blue": "蓝", "purple": "紫"}
    colours |= {"black": "黑", "white": "白"}
    shapes = {
        "circle": "圆形",
        "square": "正方形",
        "triangle": "三角形",
        "star": "星星",
        "heart": "心形",
        "moon": "月亮",
    }
    grounds = {"plain": "纯色", "striped": "条纹", "dotted": "圆点", "checked": "方格"}
    return f"{grounds[background]}背景上有一个{colours[colour]}色的{sizes[size]}{shapes[shape]}。"


def arabic(size, colour, shape, background):
    shapes = {"circle": "دائرة", "star": "نجمة", "square": "مربع", "triangle": "مثلث", "heart": "قلب", "moon": "هلال"}
    feminine = shape in ("circle", "star")
    sizes = {"small": ("صغير", "صغيرة"), "large": ("كبير", "كبيرة")}
    colours = {"red": ("أحمر", "حمراء"), "orange": ("برتقالي", "برتقالية"), "yellow": ("أصفر", "صفراء")}
    colours |= {"green": ("أخضر", "خضراء"), "blue": ("أزرق", "زرقاء"), "purple": ("بنفسجي", "بنفسجية")}
    colours |= {"black": ("أسود", "سوداء"), "white": ("أبيض", "بيضاء")}
    grounds = {"plain": "سادة", "striped": "مخططة", "dotted": "منقطة", "checked": "مربعات"}
    return f"{shapes[shape]} {colours[colour][feminine]} {sizes[size][feminine]} على خلفية {grounds[background]}"


def german(size, colour, shape, background):
    shapes = {"circle": "er Kreis", "star": "er Stern", "moon": "er Mond"}
    shapes |= {"square": "es Quadrat", "triangle": "es Dreieck", "heart": "es Herz"}
    sizes = {"small": "klein", "large": "groß"}
    colours = {"red": "rot", "orange": "orangefarben", "yellow": "gelb", "green": "grün", "blue": "blau"}
    colours |= {"purple": "violett", "black": "schwarz", "white": "weiß"}
    grounds = {"plain": "einfarbigem", "striped": "gestreiftem", "dotted": "gepunktetem", "checked": "kariertem"}
    ending, noun = shapes[shape].split()
    return f"Ein {sizes[size]}{ending}, {colours[colour]}{ending} {noun} auf {grounds[background]} Grund."


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_tutorial_data(folder, 24)
    return folder


def translate(folder, describe):
    """Replace the English captions, in decomposed Unicode (NFD), and put all images into the training split."""
    with open(folder / "metadata.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    english = re.compile(r"a (\w+) (\w+) (\w+) on a (\w+) background")
    captions = {}
    with open(folder / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("file_name", "text", "split"))
        for row in rows:
            if kind := english.fullmatch(row["text"]):
                captions[row["file_name"]] = caption = describe(*kind.groups())
                table.writerow((row["file_name"], unicodedata.normalize("NFD", caption), "train"))
    return captions


@pytest.mark.parametrize(
    ("describe", "tokenizer", "length"), [(chinese, "char", 25), (arabic, "word", 12), (german, "bpe", 25)]
)
def test_captions_in_other_languages_are_learnt_and_reproduced(
    showtell, tmp_path, caplog, shapes, describe, tokenizer, length
):
    images = tmp_path / "images"
    images.mkdir()
    (images / "images").symlink_to(shapes / "images")
    (images / "metadata.csv").write_bytes((shapes / "metadata.csv").read_bytes())
    captions = translate(images, describe)
    assert all(caption == unicodedata.normalize("NFC", caption) for caption in captions.values())

    caplog.set_level(logging.INFO)
    settings = ["--tokenizer", tokenizer, "--max-length", length, *SMALL, *SHORT]
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    for arguments in (["train", "-o", run, "--images", images, *settings], ["export", run, "-o", bundle]):
        app(list(map(str, arguments)), standalone_mode=False)
    assert "train: 24 images, 24 captions, 0.00%" in caplog.text and "truncated" not in caplog.text
    assert Bundle.load(bundle).vocabulary.kind == tokenizer

    done = showtell("caption", *(images / name for name in captions), "--model", bundle, "--json")
    generated = {entry["path"].removeprefix(f"{images}/"): entry["caption"] for entry in json.loads(done.stdout)}
    correct = {describe(*kind) for kind in product(RADII, COLOURS, SHAPES, BACKGROUNDS)}
    assert sum(caption in correct for caption in generated.values()) >= 20, generated
    assert sum(generated[name] == caption for name, caption in captions.items()) >= 8, generated
