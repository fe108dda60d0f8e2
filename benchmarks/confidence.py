"""Compare the confidence of a bundle on dev images with that on images far from its training data.

python benchmarks/confidence.py --images Flicker8k_Dataset --captions Flickr8k.token.txt [--model BUNDLE]
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from _measure import EXAMPLES, make_parser
from PIL import Image, ImageDraw, ImageFont

from showtell.data import read_split
from showtell.images import find_images
from showtell.inference.captioner import Captioner

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


def main() -> None:
    """Print a Markdown table of quantiles of the confidence for each kind of image."""
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--captions", type=Path, required=True, help="caption file")
    parser.add_argument("--model", default="default", help="bundle; default: the shipped one")
    arguments = parser.parse_args()
    captioner = Captioner.load(arguments.model)
    if captioner.calibration is None:
        raise SystemExit(f"{arguments.model}: no calibration; add one with: showtell calibrate")
    generator = np.random.default_rng(0)
    kinds = {
        "dev": [arguments.images / example.image for example in read_split(arguments.captions, "dev")],
        "the six examples (COCO)": list(find_images([EXAMPLES])),
        f"{COUNT} pages of text": list(_draw_pages(generator)),
        f"{COUNT} images of noise": list(_draw_noise(generator)),
    }
    print("| images | minimum | lower quartile | median | upper quartile | maximum |\n|---|---|---|---|---|---|")
    for name, sources in kinds.items():
        results = [result for result in captioner.caption(sources) if result.error is None]
        quantiles = np.quantile([result.captions[0].confidence for result in results], (0, 0.25, 0.5, 0.75, 1))
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in quantiles) + " |")


def _draw_pages(generator: np.random.Generator) -> Iterator[bytes]:
    """Yield pages of text, each with its own font size."""
    for _ in range(COUNT):
        size = int(generator.integers(14, 28))
        page = Image.new("RGB", (850, 1100), "white")
        draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
        for top in range(60, 1040, round(1.4 * size)):
            draw.text((60, top), " ".join(generator.choice(WORDS, 12)), fill="black", font=font)
        yield _encode_png(page)


def _draw_noise(generator: np.random.Generator) -> Iterator[bytes]:
    """Yield images of noise, alternating between single pixels and patches."""
    for number in range(COUNT):
        side = 400 // (1 + 9 * (number % 2))
        pixels = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
        yield _encode_png(Image.fromarray(pixels).resize((400, 400), Image.Resampling.BICUBIC))


def _encode_png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    main()
