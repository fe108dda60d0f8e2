import json
import shutil
from dataclasses import replace

import pytest
from helpers import EXAMPLES
from PIL import Image

from showtell.data.caption_files import Example
from showtell.errors import ConfigurationError, ImageError
from showtell.evaluation.evaluator import FEW_IMAGES, read_split, score_captions, write_report
from showtell.inference.bundle import Bundle
from showtell.inference.bundle import DEFAULT_BUNDLE
from showtell.inference.captioner import Captioner
from showtell.metrics.scores import DocumentFrequencies
from showtell.metrics.scores import score_captions as score

NAMES = [path.name for path in sorted(EXAMPLES.glob("*.jpg"))]
EXAMPLE_CAPTIONS = [
    Example(name, (f"a man is standing at place {number}", "a dog")) for number, name in enumerate(NAMES)
]
FREQUENCIES = DocumentFrequencies(1000, {"a": 1000, "man": 300, "dog": 300, "a man": 250, "is": 500})


@pytest.fixture(scope="module")
def bundles():
    """The bundle that ships, without document frequencies and with some."""
    shipped = Bundle.load(DEFAULT_BUNDLE)
    files = {name: content for name, content in shipped.files.items() if name != "document_frequencies.json"}
    with_frequencies = {**files, "document_frequencies.json": FREQUENCIES.to_json().encode()}
    return replace(shipped, files=files), replace(shipped, files=with_frequencies)


@pytest.fixture(scope="module")
def found(bundles):
    return score_captions(Captioner([bundles[0]]), EXAMPLE_CAPTIONS, EXAMPLES)


def test_few_images_are_scored_with_the_frequencies_of_the_bundle(bundles, found):
    references = {example.image: example.captions for example in EXAMPLE_CAPTIONS}
    captions = {name: caption.text for name, caption in found.captions.items()}
    assert found.scores == score(captions, references)
    assert "higher than that of the same captions in a larger set" in found.notes[-1]

    plain, carrying = bundles
    mended = score_captions(Captioner([plain, carrying]), EXAMPLE_CAPTIONS, EXAMPLES)  # an ensemble of both
    assert mended.scores == score(captions, references, FREQUENCIES)
    assert mended.scores.cider != found.scores.cider
    assert "those of the bundle, counted on 1000 images" in mended.notes[-1]


def test_frequencies_of_no_more_images_than_there_are_do_not_help(bundles, found):
    few = DocumentFrequencies(len(NAMES), {}).to_json().encode()
    bundle = replace(bundles[0], files={**bundles[0].files, "document_frequencies.json": few})
    assert score_captions(Captioner([bundle]), EXAMPLE_CAPTIONS, EXAMPLES).frequencies is None


def test_many_images_are_scored_with_their_own_frequencies(bundles, tmp_path):
    examples = []
    for number in range(FEW_IMAGES):
        Image.new("RGB", (8, 8), (number, 0, 255 - number)).save(tmp_path / f"{number}.png")
        examples.append(Example(f"{number}.png", ("a man", "a dog")))
    captioner = Captioner([bundles[1]])
    greedy = replace(captioner.search_options, beam_size=1)
    assert score_captions(captioner, examples, tmp_path, greedy).frequencies is None
    assert score_captions(captioner, examples[1:], tmp_path, greedy).frequencies is not None


def test_images_that_cannot_be_read_are_told_and_count_nowhere(bundles, tmp_path, found):
    shutil.copy(EXAMPLES / NAMES[0], tmp_path / NAMES[0])
    (tmp_path / NAMES[1]).write_bytes(b"no")
    said = []
    less = score_captions(Captioner([bundles[0]]), EXAMPLE_CAPTIONS[:2], tmp_path, say=said.append)
    assert [(name, caption.text) for name, caption in less.captions.items()] == [
        (NAMES[0], found.captions[NAMES[0]].text)
    ]
    assert less.figures["images"] == 1 and list(less.unreadable) == [NAMES[1]]
    assert len(less.notes) == len(less.scores.notes)  # that CIDEr of one image is 0 is said there
    assert len(said) == 1 and said[0].startswith("left out: ")
    with pytest.raises(ImageError, match="none of the 1 images"):
        score_captions(Captioner([bundles[0]]), EXAMPLE_CAPTIONS[1:2], tmp_path, say=said.append)


def test_the_report_holds_every_image_and_how_it_was_made(found, tmp_path):
    write_report(tmp_path / "report", found, EXAMPLES, {"split": "all"})
    content = json.loads((tmp_path / "report" / "scores.json").read_text())
    assert content["settings"]["split"] == "all" and content["settings"]["search"]["beam_size"] == 3
    assert content["scores"]["CIDEr"] == pytest.approx(found.scores.cider, abs=1e-4)
    assert content["document_frequencies"] == {"of": "these images", "images": len(NAMES)}
    assert content["notes"] == found.notes and content["unreadable"] == {}
    assert [entry["image"] for entry in content["images"]] == NAMES
    mean = sum(entry["cider"] for entry in content["images"]) / len(NAMES)
    assert mean == pytest.approx(found.scores.cider, abs=1e-3)
    first = content["images"][0]
    assert first["references"] == list(EXAMPLE_CAPTIONS[0].captions) and first["log_prob"] < 0
    assert first["caption"] == found.captions[NAMES[0]].text and "meteor" not in first
    with Image.open(tmp_path / "report" / "best-median-worst.jpg") as picture:
        assert picture.width > 480 and picture.height > picture.width  # three groups below one another


@pytest.mark.parametrize("images", [1, 2, 6])
def test_the_picture_shows_the_best_the_median_and_the_worst(found, tmp_path, images):
    # Every image is of one colour: which are on the sheet, and where, can then be seen.
    names = NAMES[:images]
    reds = {name: 40 * number for number, name in enumerate(names)}
    for name in names:
        Image.new("RGB", (300, 300), (reds[name], 0, 200)).save(tmp_path / name, quality=100)
    part = replace(
        found,
        captions={name: found.captions[name] for name in names},
        scores=replace(found.scores, per_image={name: float(number % 4) for number, name in enumerate(names)}),
    )
    assert [part.scores.per_image[name] for name in part.ranked()] == sorted(part.scores.per_image.values())[::-1]
    write_report(tmp_path / "report", part, tmp_path, {})
    with Image.open(tmp_path / "report" / "best-median-worst.jpg") as sheet:
        shown = [
            pixel
            for x in (sheet.width // 4, 3 * sheet.width // 4)
            for pixel in (sheet.getpixel((x, y)) for y in range(0, sheet.height, 20))
            if pixel[1] < 30 and pixel[2] > 170
        ]
    seen = {min(reds, key=lambda name: abs(reds[name] - pixel[0])) for pixel in shown}
    ranked = part.ranked()
    expected = {1: ranked, 2: ranked, 6: [*ranked[:2], *ranked[2:4], *ranked[-2:]]}[images]
    assert seen == set(expected)


def test_a_split_is_read_by_either_name_or_held_out(tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text("file_name,text,split\na.jpg,a dog,train\nb.jpg,a cat,val\n")
    assert [
        [example.image for example in read_split(table, None, split)] for split in ("dev", "val", "train", "all")
    ] == [
        ["b.jpg"],
        ["b.jpg"],
        ["a.jpg"],
        ["a.jpg", "b.jpg"],
    ]
    with pytest.raises(ConfigurationError, match=r"captions\.csv: no captions of split 'test'"):
        read_split(table, None, "test")
    table.write_text("file_name,text\n" + "".join(f"{number}.jpg,a dog\n" for number in range(20)))
    held = {example.image for example in read_split(table, None, "dev")}
    rest = {example.image for example in read_split(table, None, "train")}
    assert len(held) == 2 and len(rest) == 18 and not held & rest
