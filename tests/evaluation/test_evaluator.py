import logging
import shutil
from dataclasses import replace

import pytest
from helpers import EXAMPLES
from PIL import Image

from showtell.data.caption_files import Example
from showtell.errors import ImageError
from showtell.evaluation.evaluator import MIN_RELIABLE_IMAGES, evaluate_captioner
from showtell.inference.bundle import Bundle
from showtell.inference.captioner import Captioner
from showtell.metrics import DocumentFrequencies, score_captions

NAMES = [path.name for path in sorted(EXAMPLES.glob("*.jpg"))]
EXAMPLE_CAPTIONS = [
    Example(name, (f"a man is standing at place {number}", "a dog")) for number, name in enumerate(NAMES)
]
FREQUENCIES = DocumentFrequencies(1000, {"a": 1000, "man": 300, "dog": 300, "a man": 250, "is": 500})


@pytest.fixture(scope="module")
def bundles():
    """The default bundle without and with document frequencies."""
    default = Bundle.load("default")
    files = {name: content for name, content in default.files.items() if name != "document_frequencies.json"}
    with_frequencies = {**files, "document_frequencies.json": FREQUENCIES.to_json().encode()}
    return replace(default, files=files), replace(default, files=with_frequencies)


@pytest.fixture(scope="module")
def evaluation(bundles):
    return evaluate_captioner(Captioner([bundles[0]]), EXAMPLE_CAPTIONS, EXAMPLES)


def test_few_images_are_scored_with_the_frequencies_of_the_bundle(bundles, evaluation):
    references = {example.image: example.captions for example in EXAMPLE_CAPTIONS}
    captions = {name: caption.text for name, caption in evaluation.captions.items()}
    assert evaluation.scores == score_captions(captions, references)
    assert "higher than CIDEr of the same captions in a larger set" in evaluation.notes[-1]

    ensemble = evaluate_captioner(Captioner(bundles), EXAMPLE_CAPTIONS, EXAMPLES)
    assert ensemble.scores == score_captions(captions, references, FREQUENCIES)
    assert ensemble.scores.cider != evaluation.scores.cider
    assert "the document frequencies of the bundle (1000 images)" in ensemble.notes[-1]


def test_frequencies_of_equally_few_images_are_not_used(bundles):
    frequencies = DocumentFrequencies(len(NAMES), {}).to_json().encode()
    bundle = replace(bundles[0], files={**bundles[0].files, "document_frequencies.json": frequencies})
    assert evaluate_captioner(Captioner([bundle]), EXAMPLE_CAPTIONS, EXAMPLES).frequencies is None


def test_many_images_are_scored_with_their_own_frequencies(bundles, tmp_path):
    examples = []
    for number in range(MIN_RELIABLE_IMAGES):
        Image.new("RGB", (8, 8), (number, 0, 255 - number)).save(tmp_path / f"{number}.png")
        examples.append(Example(f"{number}.png", ("a man", "a dog")))
    captioner = Captioner([bundles[1]])
    greedy = replace(captioner.search_options, beam_size=1)
    assert evaluate_captioner(captioner, examples, tmp_path, greedy).frequencies is None
    assert evaluate_captioner(captioner, examples[1:], tmp_path, greedy).frequencies is not None


def test_unreadable_images_are_reported_and_not_scored(bundles, evaluation, tmp_path, caplog):
    shutil.copy(EXAMPLES / NAMES[0], tmp_path / NAMES[0])
    (tmp_path / NAMES[1]).write_bytes(b"no")
    partial = evaluate_captioner(Captioner([bundles[0]]), EXAMPLE_CAPTIONS[:2], tmp_path)
    texts = {name: caption.text for name, caption in partial.captions.items()}
    assert texts == {NAMES[0]: evaluation.captions[NAMES[0]].text}
    assert partial.metrics["images"] == 1 and list(partial.unreadable) == [NAMES[1]]
    assert partial.notes == list(partial.scores.notes)  # these explain a CIDEr of 0 of one image
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.WARNING, f"skipped: {partial.unreadable[NAMES[1]]}")
    ]
    with pytest.raises(ImageError, match="none of the 1 images"):
        evaluate_captioner(Captioner([bundles[0]]), EXAMPLE_CAPTIONS[1:2], tmp_path)


def test_progress_counts_every_image(bundles):
    calls = []
    evaluate_captioner(
        Captioner([bundles[0]]), EXAMPLE_CAPTIONS[:3], EXAMPLES, progress=lambda *counts: calls.append(counts)
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
