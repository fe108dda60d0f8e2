"""A program that uses the whole public API. `mypy --strict` accepts it, and test_api.py runs it."""

import sys
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

import showtell
from showtell import (
    Bundle,
    BundleError,
    Caption,
    Captioner,
    CaptionResult,
    ConfigurationError,
    ImageError,
    SearchOptions,
    ShowtellError,
)


def describe(caption: Caption) -> str:
    """Use every attribute of a caption."""
    confidence = "unknown" if caption.confidence is None else f"{caption.confidence:.2f}"
    shape = None if caption.attention is None else caption.attention.shape
    others = [other.text for other in caption.alternatives]
    return f"{caption.text} {confidence} {caption.log_prob:.1f} {caption.score:.1f} {caption.tokens} {shape} {others}"


def caption_every_type(captioner: Captioner, photo: Path) -> list[Caption]:
    """Caption one photo as each type of image source."""
    with Image.open(photo) as image, photo.open("rb") as file:
        pixels: np.ndarray = np.asarray(image.convert("RGB"))
        return [
            captioner(photo),
            captioner(str(photo)),
            captioner(photo.read_bytes()),
            captioner(BytesIO(photo.read_bytes())),
            captioner(file),
            captioner(image, beam_size=5, n_best=3),
            captioner(pixels, SearchOptions(strategy="greedy")),
        ]


def stream(captioner: Captioner, photos: Iterable[Path]) -> list[str]:
    """Caption a stream, errors included."""
    results: Iterable[CaptionResult] = captioner.caption(photos, max_length=8, batch_size=2)
    return [result.captions[0].text if result.error is None else str(result.error) for result in results]


def main(photo: Path, dataset: Path, output: Path) -> None:
    """Caption, train, export and evaluate."""
    captioner = Captioner.load("default")
    for caption in caption_every_type(captioner, photo):
        print(describe(caption))
    print(stream(captioner, [photo, photo.with_name("absent.jpg")]))
    for wrong in (lambda: Captioner.load(output / "absent"), lambda: captioner(photo, beam_size=0)):
        try:
            wrong()
        except (BundleError, ConfigurationError, ImageError) as error:
            print(isinstance(error, ShowtellError), isinstance(error, ValueError))
    run: Path = showtell.train(
        images=dataset,
        output=output / "run",
        caption_format="csv",
        skip_missing=True,
        epochs=1,
        units=16,
        embedding_size=16,
    )
    bundle: Bundle = showtell.export(run, output / "bundle.zip", phase="cross-entropy")
    evaluation = showtell.evaluate(bundle, captions=dataset, images=dataset, caption_format="csv")
    print(sorted(evaluation.metrics), evaluation.captions["images/0004.png"].text)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
