import json
from dataclasses import replace

import pytest
from helpers import EXAMPLES
from PIL import Image

from showtell import Captioner
from showtell.data.caption_files import Example
from showtell.evaluation.evaluator import evaluate_captioner
from showtell.evaluation.report import write_report

NAMES = [path.name for path in sorted(EXAMPLES.glob("*.jpg"))]
CAPTIONS = [Example(name, (f"a man is standing at place {number}", "a dog")) for number, name in enumerate(NAMES)]


@pytest.fixture(scope="module")
def evaluation():
    return evaluate_captioner(Captioner.load(), CAPTIONS, EXAMPLES)


def test_report_contains_every_image_and_the_settings(evaluation, tmp_path):
    write_report(tmp_path / "report", evaluation, EXAMPLES, {"split": "all"})
    content = json.loads((tmp_path / "report" / "scores.json").read_text())
    assert content["settings"]["split"] == "all" and content["settings"]["search"]["beam_size"] == 3
    assert content["scores"]["CIDEr"] == pytest.approx(evaluation.scores.cider, abs=1e-4)
    frequencies = evaluation.frequencies
    assert content["document_frequencies"] == {"of": "the bundle", "images": frequencies.images}
    assert content["notes"] == evaluation.notes and content["unreadable"] == {}
    assert [entry["image"] for entry in content["images"]] == NAMES
    mean = sum(entry["cider"] for entry in content["images"]) / len(NAMES)
    assert mean == pytest.approx(evaluation.scores.cider, abs=1e-3)
    first = content["images"][0]
    assert first["references"] == list(CAPTIONS[0].captions) and first["log_prob"] < 0
    assert first["caption"] == evaluation.captions[NAMES[0]].text and "meteor" not in first


def test_report_names_the_images_as_source_of_their_own_frequencies(evaluation, tmp_path):
    write_report(tmp_path / "report", replace(evaluation, frequencies=None), EXAMPLES, {})
    content = json.loads((tmp_path / "report" / "scores.json").read_text())
    assert content["document_frequencies"] == {"of": "these images", "images": len(NAMES)}


def test_the_sheet_has_three_groups_of_images(evaluation, tmp_path):
    write_report(tmp_path / "report", evaluation, EXAMPLES, {})
    with Image.open(tmp_path / "report" / "best-median-worst.jpg") as sheet:
        assert sheet.width > 480 and sheet.height > sheet.width


@pytest.mark.parametrize("images", [1, 2, 6])
def test_sheet_shows_best_median_and_worst_captions(evaluation, tmp_path, images):
    # Each image has one colour, so that it can be found on the sheet.
    names = NAMES[:images]
    reds = {name: 40 * number for number, name in enumerate(names)}
    for name in names:
        Image.new("RGB", (300, 300), (reds[name], 0, 200)).save(tmp_path / name, quality=100)
    part = replace(
        evaluation,
        captions={name: evaluation.captions[name] for name in names},
        scores=replace(evaluation.scores, per_image={name: float(number % 4) for number, name in enumerate(names)}),
    )
    ranked = part.ranked()
    assert [part.scores.per_image[name] for name in ranked] == sorted(part.scores.per_image.values(), reverse=True)
    write_report(tmp_path / "report", part, tmp_path, {})
    with Image.open(tmp_path / "report" / "best-median-worst.jpg") as sheet:
        pixels = [
            sheet.getpixel((x, y)) for x in (sheet.width // 4, 3 * sheet.width // 4) for y in range(0, sheet.height, 20)
        ]
    shown = {
        min(reds, key=lambda name: abs(reds[name] - red)) for red, green, blue in pixels if green < 30 and blue > 170
    }
    assert shown == set({1: ranked, 2: ranked, 6: [*ranked[:2], *ranked[2:4], *ranked[-2:]]}[images])
