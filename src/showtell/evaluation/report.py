"""The report of an evaluation: scores.json and a sheet of the best, median and worst captions."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from PIL import Image

from showtell import __version__
from showtell.drawing.fonts import Fonts
from showtell.drawing.sheets import Panel, panel_sheet
from showtell.evaluation.evaluator import Evaluation
from showtell.images import decode
from showtell.utils.files import atomic_write, write_json

MAX_IMAGES_PER_GROUP = 4


def write_report(
    output: Path, evaluation: Evaluation, folder: Path, settings: Mapping[str, Any], fonts: Fonts | None = None
) -> None:
    """Write `scores.json` and `best-median-worst.jpg`.

    Args:
        output: folder of the report; created if missing.
        evaluation: the evaluation.
        folder: folder of the images.
        settings: further settings to record in scores.json.
        fonts: fonts of the sheet.
    """
    frequencies = evaluation.frequencies
    content = {
        "settings": {
            **settings,
            "search": asdict(evaluation.options),
            "date": date.today().isoformat(),
            "showtell": __version__,
        },
        "scores": {name: round(value, 4) for name, value in evaluation.metrics.items()},
        "document_frequencies": {
            "of": "these images" if frequencies is None else "the bundle",
            "images": len(evaluation.captions) if frequencies is None else frequencies.images,
        },
        "notes": evaluation.notes,
        "images": [_entry(evaluation, image) for image in evaluation.captions],
        "unreadable": evaluation.unreadable,
    }
    write_json(output / "scores.json", content)
    with atomic_write(output / "best-median-worst.jpg") as temporary:
        draw_best_median_worst(evaluation, folder, fonts).save(temporary, quality=90)


def draw_best_median_worst(evaluation: Evaluation, folder: Path, fonts: Fonts | None = None) -> Image.Image:
    """Draw the images with the best, median and worst captions by CIDEr, with their references.

    Args:
        evaluation: the evaluation.
        folder: folder of the images.
        fonts: fonts of the sheet.
    """
    ranked = evaluation.ranked()
    count = min(MAX_IMAGES_PER_GROUP, max(1, len(ranked) // 3))
    middle = (len(ranked) - count) // 2
    groups = {"best": ranked[:count], "median": ranked[middle : middle + count], "worst": ranked[-count:]}
    panels = {heading: [_panel(evaluation, folder, image) for image in images] for heading, images in groups.items()}
    return panel_sheet(panels, fonts)


def _entry(evaluation: Evaluation, image: str) -> dict[str, Any]:
    scores, caption = evaluation.scores, evaluation.captions[image]
    entry: dict[str, Any] = {
        "image": image,
        "caption": caption.text,
        "log_prob": round(caption.log_prob, 4),
        "cider": round(scores.per_image[image], 4),
    }
    if scores.meteor is not None:
        entry["meteor"] = round(scores.meteor_per_image[image], 4)
    return {**entry, "references": list(evaluation.references[image])}


def _panel(evaluation: Evaluation, folder: Path, image: str) -> Panel:
    remarks = [f"CIDEr {evaluation.scores.per_image[image]:.1f}", *evaluation.references[image]]
    return Panel(decode(folder / image, at_least=480), evaluation.captions[image].text, remarks)
