"""The confidence of a bundle on dev images against that on images far from what it has learnt from.

python benchmarks/confidence.py --images Flicker8k_Dataset --captions Flickr8k.token.txt [--model BUNDLE]
"""

import argparse
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from showtell.evaluation.evaluator import read_split
from showtell.images import ImageSource, find_images
from showtell.inference.bundle import DEFAULT_BUNDLE
from showtell.inference.captioner import Captioner

EXAMPLES = Path(__file__).parent.parent / "examples"
COUNT = 20
WORDS = (
    "the",
    "of",
    "model",
    "image",
    "and",
    "in",
    "to",
    "for",
    "is",
    "that",
    "page",
    "text",
    "with",
    "from",
    "are",
    "on",
)


def as_file(image: Image.Image) -> bytes:
    """Return an image as the bytes of a PNG file."""
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def pages(random: np.random.Generator) -> Iterable[bytes]:
    """Yield pages of text in sizes and line spacings of their own."""
    for _ in range(COUNT):
        size = int(random.integers(14, 28))
        page = Image.new("RGB", (850, 1100), "white")
        pen, font = ImageDraw.Draw(page), ImageFont.load_default(size)
        for top in range(60, 1040, round(1.4 * size)):
            pen.text((60, top), " ".join(random.choice(WORDS, 12)), fill="black", font=font)
        yield as_file(page)


def noise(random: np.random.Generator) -> Iterable[bytes]:
    """Yield images of noise, some of single pixels and some of patches."""
    for number in range(COUNT):
        side = 400 // (1 + 9 * (number % 2))
        pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        yield as_file(Image.fromarray(pixels).resize((400, 400), Image.Resampling.BICUBIC))


def main() -> None:
    """Print quantiles of the confidence for each kind of image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--captions", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=DEFAULT_BUNDLE)
    arguments = parser.parse_args()
    captioner = Captioner.load(arguments.model)
    if captioner.calibration is None:
        raise SystemExit(f"{arguments.model}: it has no calibration; make one with: showtell calibrate")
    random = np.random.default_rng(0)
    kinds: dict[str, Iterable[ImageSource]] = {
        "dev": [arguments.images / example.image for example in read_split(arguments.captions, None, "dev")],
        "the six examples (COCO)": find_images([EXAMPLES]),
        f"{COUNT} pages of text": pages(random),
        f"{COUNT} images of noise": noise(random),
    }
    print("| images | least | lower quartile | median | upper quartile | most |\n|---|---|---|---|---|---|")
    for name, sources in kinds.items():
        found = [result.captions[0].confidence or 0 for result in captioner.caption(sources) if not result.error]
        quantiles = np.quantile(found, (0, 0.25, 0.5, 0.75, 1))
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in quantiles) + " |")


if __name__ == "__main__":
    main()
