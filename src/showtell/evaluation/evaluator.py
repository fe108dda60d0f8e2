"""Scoring a captioner on captioned images, and the report of it: figures, per-image scores, a picture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from PIL import Image

from showtell import __version__
from showtell.data.caption_files import Example, read_caption_file, split_holdout
from showtell.drawing.fonts import Fonts
from showtell.drawing.sheets import Panel, panel_sheet
from showtell.errors import ConfigurationError, ImageError
from showtell.images import decode
from showtell.inference.captioner import Caption, Captioner
from showtell.inference.search import SearchOptions
from showtell.metrics.scores import DocumentFrequencies, Scores, score_captions
from showtell.utils.files import atomic_write, write_json

# On Flickr8k, CIDEr of 5, 100 and 200 random images with their own document frequencies is 18, 6 and 4 off that of the
# same captions among 1,000 images; with those of 1,000 others it is 2.1, 0.6 and 0.4 off (benchmarks/few_images.py).
FEW_IMAGES = 200
SHOWN_A_GROUP = 4


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        scores: the figures.
        captions: image -> its caption by the captioner.
        references: image -> its captions by people.
        unreadable: image -> why it could not be captioned; these count nowhere.
        options: how captions were sought.
        frequencies: the document frequencies of a bundle, if CIDEr was computed with them.
    """

    scores: Scores
    captions: Mapping[str, Caption]
    references: Mapping[str, Sequence[str]]
    unreadable: Mapping[str, str]
    options: SearchOptions
    frequencies: DocumentFrequencies | None

    @property
    def figures(self) -> dict[str, float | int]:
        """The figures by the names that people know, scores and shares in percent."""
        scores = self.scores
        return {
            **{f"BLEU-{order}": getattr(scores, f"bleu_{order}") for order in range(1, 5)},
            **({} if scores.meteor is None else {"METEOR": scores.meteor}),
            "ROUGE-L": scores.rouge_l,
            "CIDEr": scores.cider,
            "distinct captions": 100 * scores.distinct,
            "with a repeated bigram": 100 * scores.repeated_bigrams,
            "words a caption": scores.mean_length,
            "images": len(self.captions),
        }

    @property
    def notes(self) -> list[str]:
        """What one should know of the figures."""
        notes, images = list(self.scores.notes), len(self.captions)
        if self.frequencies is not None:
            notes.append(
                f"{images} images are few for document frequencies of their own; CIDEr is computed with those of the "
                f"bundle, counted on {self.frequencies.images} images; compare it only with figures that used the same"
            )
        elif 1 < images < FEW_IMAGES:
            notes.append(
                f"CIDEr of {images} images alone comes out higher than that of the same captions in a larger set; "
                "compare it with that of as many images only"
            )
        return notes

    def ranked(self) -> list[str]:
        """Return the images, the one with the highest CIDEr first."""
        return sorted(self.captions, key=lambda image: -self.scores.per_image[image])


def read_split(
    path: Path,
    format: str | None,  # noqa: A002
    split: str,
    say: Callable[[str], None] = lambda line: None,
) -> list[Example]:
    """Read the examples of a split ("dev" is "val"; "all"); where a file has none, those that training holds out.

    Tells by `say` if the file has none.

    Raises:
        CaptionFileError: if the file cannot be read.
        ConfigurationError: if the split is empty.
    """
    wanted = "val" if split == "dev" else split
    examples = read_caption_file(path, format)
    if all(example.split is None for example in examples):
        examples = split_holdout(examples)
        if wanted != "all":
            count = sum(example.split == wanted for example in examples)
            say(
                f"{path}: it has no splits; {split} is the {count} of its {len(examples)} images that training would "
                "take for it, and --split all is all of them"
            )
    chosen = [example for example in examples if wanted in ("all", example.split)]
    if not chosen:
        there = sorted({example.split for example in examples if example.split})
        raise ConfigurationError(f"{path}: no captions of split {split!r}; it has {', '.join(there)}")
    return chosen


def evaluate_captioner(
    captioner: Captioner,
    examples: Sequence[Example],
    folder: Path,
    options: SearchOptions | None = None,
    meteor: bool = False,
    say: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Caption the images of the examples, and score the captions.

    CIDEr is computed with the document frequencies of these images, as papers do; of fewer than FEW_IMAGES with those
    of the captioner's bundles, if they come from more images.

    Args:
        captioner: one bundle, or an ensemble.
        examples: images with their references.
        folder: where the images are.
        options: how to search; by default as the (first) bundle says.
        meteor: whether to compute METEOR too.
        say: called with a line for each image that cannot be read.
        progress: called with the number of images done, and of all.

    Raises:
        ImageError: if no image can be read.
        ShowtellError: if METEOR lacks what it needs.
    """
    options = options or captioner.search_options
    captions: dict[str, Caption] = {}
    unreadable: dict[str, str] = {}
    results = captioner.caption((folder / example.image for example in examples), options)
    for done, (example, result) in enumerate(zip(examples, results, strict=True), start=1):
        if result.error is None:
            captions[example.image] = result.captions[0]
        else:
            unreadable[example.image] = str(result.error)
            say(f"left out: {result.error}")
        progress(done, len(examples))
    if not captions:
        raise ImageError(f"none of the {len(examples)} images can be read")
    references = {example.image: example.captions for example in examples if example.image in captions}
    frequencies = _frequencies(captioner, len(captions))
    texts = {image: caption.text for image, caption in captions.items()}
    return Evaluation(
        score_captions(texts, references, frequencies, meteor), captions, references, unreadable, options, frequencies
    )


def _frequencies(captioner: Captioner, images: int) -> DocumentFrequencies | None:
    if images >= FEW_IMAGES:
        return None
    carried = [bundle.document_frequencies for bundle in captioner.bundles]
    larger = [frequencies for frequencies in carried if frequencies is not None and frequencies.images > images]
    return max(larger, key=lambda frequencies: frequencies.images, default=None)


def write_report(
    output: Path, found: Evaluation, folder: Path, settings: Mapping[str, Any], fonts: Fonts | None = None
) -> None:
    """Write `scores.json` and `best-median-worst.jpg` into a folder.

    Args:
        output: the folder; it is made if it is not there.
        found: what to report.
        folder: where the images are.
        settings: what else was chosen, for the report to tell.
        fonts: where the fonts for the picture come from.
    """
    scores = found.scores
    own = found.frequencies is None
    images = []
    for image, caption in found.captions.items():
        entry = {
            "image": image,
            "caption": caption.text,
            "log_prob": round(caption.log_prob, 4),
            "cider": round(scores.per_image[image], 4),
        }
        if scores.meteor is not None:
            entry["meteor"] = round(scores.meteor_per_image[image], 4)
        images.append({**entry, "references": list(found.references[image])})
    content = {
        "settings": {
            **settings,
            "search": asdict(found.options),
            "date": date.today().isoformat(),
            "showtell": __version__,
        },
        "scores": {name: round(value, 4) for name, value in found.figures.items()},
        "document_frequencies": {
            "of": "these images" if own else "the bundle",
            "images": len(images) if found.frequencies is None else found.frequencies.images,
        },
        "notes": found.notes,
        "images": images,
        "unreadable": found.unreadable,
    }
    write_json(output / "scores.json", content)
    with atomic_write(output / "best-median-worst.jpg") as temporary:
        picture(found, folder, fonts).save(temporary, quality=90)


def picture(found: Evaluation, folder: Path, fonts: Fonts | None = None) -> Image.Image:
    """Draw the images with the best, the median and the worst captions by CIDEr, and their references."""
    ranked = found.ranked()
    count = min(SHOWN_A_GROUP, max(1, len(ranked) // 3))
    middle = (len(ranked) - count) // 2
    groups = {"best": ranked[:count], "median": ranked[middle : middle + count], "worst": ranked[-count:]}
    return panel_sheet(
        {heading: [_panel(found, folder, image) for image in group] for heading, group in groups.items()}, fonts
    )


def _panel(found: Evaluation, folder: Path, image: str) -> Panel:
    remarks = [f"CIDEr {found.scores.per_image[image]:.1f}", *found.references[image]]
    return Panel(decode(folder / image, at_least=480), found.captions[image].text, remarks)
