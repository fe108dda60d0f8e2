"""Folders of annotated images: captions as titles, and attention maps.

`showtell.drawing` is imported when the first image is drawn, because most jobs draw none.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from showtell.errors import ConfigurationError
from showtell.images import decode
from showtell.inference.caption import Caption
from showtell.outputs.output import Output
from showtell.outputs.records import Record
from showtell.utils.files import atomic_write, require_empty_dir

if TYPE_CHECKING:
    from showtell.drawing import Fonts

MAX_SHEET_IMAGES = 32
SHEET_NAME = "contact-sheet"
MIN_DECODED_SIDE = 1280
THUMBNAIL_SIDE = 640


class _ImageFolder(Output):
    """A new folder with one JPEG image NAME.jpg per captioned image. If a name is taken, a number is appended.

    Args:
        folder: a new or empty folder.
        fonts: the fonts to choose from.

    Raises:
        ConfigurationError: if the folder is not empty.
    """

    is_per_image = True

    def __init__(self, folder: Path, fonts: "Fonts | None" = None):
        require_empty_dir(folder, "the images")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._fonts = fonts

    def _save(self, image: Image.Image, name: str) -> None:
        path, number = self._folder / f"{name}.jpg", 2
        while path.exists():
            path, number = self._folder / f"{name}-{number}.jpg", number + 1
        with atomic_write(path) as temporary:
            image.save(temporary, quality=90)


class AnnotatedImages(_ImageFolder):
    """A new folder with images that have their captions as titles, and a contact sheet of the first ones.

    Args:
        folder: a new or empty folder.
        fonts: the fonts to choose from.

    Raises:
        ConfigurationError: if the folder is not empty.
    """

    def __init__(self, folder: Path, fonts: "Fonts | None" = None):
        super().__init__(folder, fonts)
        self._thumbnails: list[Image.Image] = []
        self._titles: list[str] = []

    def add(self, record: Record, captions: Sequence[Caption] = ()) -> None:
        """Write one image with its caption. Raises ImageError if it cannot be read."""
        from showtell.drawing import draw_title

        if "error" in record:
            return
        path = Path(record["path"])
        title = f"{record['caption']} (needs review)" if record.get("needs_review") else record["caption"]
        image = decode(path, at_least=MIN_DECODED_SIDE)
        self._save(draw_title(image, title, self._fonts), path.stem)
        if len(self._thumbnails) < MAX_SHEET_IMAGES:
            image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
            self._thumbnails.append(image)
            self._titles.append(title)

    def close(self) -> None:
        """Write the contact sheet, if there are at least two images."""
        from showtell.drawing import contact_sheet

        if len(self._thumbnails) > 1:
            self._save(contact_sheet(self._thumbnails, self._titles, self._fonts), SHEET_NAME)


class AttentionMaps(_ImageFolder):
    """A new folder with attention maps that show where the model looked for each word of the best caption.

    Args:
        folder: a new or empty folder.
        fonts: the fonts to choose from.

    Raises:
        ConfigurationError: if the folder is not empty.
    """

    def add(self, record: Record, captions: Sequence[Caption] = ()) -> None:
        """Write the attention map of one image.

        Raises:
            ConfigurationError: if the caption has no attention weights.
            ImageError: if the image cannot be read.
        """
        from showtell.drawing import attention_map

        if "error" in record:
            return
        path, caption = Path(record["path"]), captions[0]
        if caption.attention is None:
            raise ConfigurationError(f"{path}: the caption has no attention weights; use a model with attention")
        image = decode(path, at_least=MIN_DECODED_SIDE)
        self._save(attention_map(image, caption.text, caption.tokens, caption.attention, self._fonts), path.stem)
