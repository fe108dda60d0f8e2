"""Alt texts proposed for pages."""

import shutil

import pytest
from helpers import EXAMPLES

from showtell import Captioner
from showtell.alt_text import propose_texts, read_pages

SKATER, DOG = "000000129648.jpg", "000000126107.jpg"


@pytest.fixture
def pages(tmp_path):
    """Two pages: one with a skater and a missing image, one with the same skater and a dog."""
    (tmp_path / "a.html").write_text(f"<img src={SKATER}><img src=missing.jpg>")
    (tmp_path / "b.md").write_text(f"![](/{SKATER})\n![]({DOG})\n")
    for name in (SKATER, DOG):
        shutil.copy(EXAMPLES / name, tmp_path)
    return read_pages([tmp_path])[0]


def test_confident_captions_are_proposed(pages):
    progress = []
    first, second = propose_texts(Captioner.load(), pages, 0.5, lambda *counts: progress.append(counts))
    assert progress == [(0, 3), (1, 3), (2, 3), (3, 3)]  # an image of two pages is captioned once
    ((_, text),) = first.texts
    assert "skateboarder" in text and second.texts[0][1] == text
    (failed,) = first.undescribed
    assert failed.is_error and "no such file" in failed.reason and failed.missing.source == "missing.jpg"
    (doubtful,) = second.undescribed
    assert not doubtful.is_error and doubtful.reason.endswith("is below 0.50") and doubtful.missing.line == 2
    assert second.content() == f"![{text}](/{SKATER})\n![]({DOG})\n".encode()


def test_pages_that_cannot_be_read_are_reported(tmp_path):
    (tmp_path / "wide.html").write_bytes("<p>".encode("utf-16"))
    (tmp_path / "page.md").write_text("![](a.jpg)")
    pages, errors = read_pages([tmp_path, tmp_path / "absent.html"])
    assert [page.path.name for page in pages] == ["page.md"]
    assert errors == [
        f"{tmp_path}/wide.html: not text, or UTF-16; save the file as UTF-8 first",
        f"{tmp_path}/absent.html: No such file or directory",
    ]


def test_pages_without_missing_texts_load_no_model(tmp_path):
    (tmp_path / "page.md").write_text("![a dog](a.jpg)")
    (proposal,) = propose_texts(None, read_pages([tmp_path])[0], 0.5)
    assert proposal.texts == proposal.undescribed == ()
