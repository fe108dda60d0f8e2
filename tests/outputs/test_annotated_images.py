"""Folders of annotated images."""

import pytest
from helpers import EXAMPLES

from showtell import Caption
from showtell.errors import ConfigurationError
from showtell.outputs import AnnotatedImages, AttentionMaps

PHOTO = EXAMPLES / "000000126107.jpg"


def test_duplicate_names_get_a_number_and_two_images_give_a_contact_sheet(tmp_path):
    output = AnnotatedImages(tmp_path / "out")
    output.add({"path": str(PHOTO), "caption": "a dog"})
    output.add({"path": str(tmp_path / "broken.jpg"), "error": "broken"})
    output.close()
    assert [path.name for path in (tmp_path / "out").iterdir()] == [PHOTO.name]
    output.add({"path": str(PHOTO), "caption": "a dog", "needs_review": True})
    output.close()
    first, second, _ = sorted((tmp_path / "out").iterdir())
    assert (first.name, second.name) == (f"{PHOTO.stem}-2.jpg", PHOTO.name)
    assert first.read_bytes() != second.read_bytes()  # one title says "(needs review)"


def test_attention_maps_need_attention_weights(tmp_path):
    output = AttentionMaps(tmp_path / "out")
    with pytest.raises(ConfigurationError, match="no attention weights; use a model with attention"):
        output.add({"path": str(PHOTO), "caption": "a dog"}, [Caption("a dog", -1.0, -1.0, ("a", "dog"))])
    output.add({"path": str(PHOTO), "error": "broken"})
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("kind", [AnnotatedImages, AttentionMaps])
def test_a_folder_with_files_is_rejected(tmp_path, kind):
    (tmp_path / "mine.jpg").touch()
    with pytest.raises(ConfigurationError, match="choose a new folder for the images"):
        kind(tmp_path)
