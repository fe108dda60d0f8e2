"""Folders of captioned pictures, and of pictures of where each word looked."""

from pathlib import Path

from PIL import Image

from showtell.drawing.attention_maps import attention_map
from showtell.drawing.fonts import Fonts
from showtell.drawing.sheets import contact_sheet, draw_title
from showtell.errors import ConfigurationError
from showtell.images import decode
from showtell.inference.captioner import Caption
from showtell.utils.files import atomic_write, require_empty_dir

SHEET = 32
SHEET_NAME = "contact-sheet"


class _NewFolder:
    """A folder of JPEG pictures, each named after the image that it was made from, with text from `fonts`.

    Raises ConfigurationError if there is anything in the folder, so that no file of a person is overwritten.
    """

    def __init__(self, folder: Path, fonts: Fonts | None = None):
        require_empty_dir(folder, "the pictures")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._fonts = fonts

    def _save(self, picture: Image.Image, name: str) -> None:
        path, number = self._folder / f"{name}.jpg", 2
        while path.exists():
            path, number = self._folder / f"{name}-{number}.jpg", number + 1
        with atomic_write(path) as temporary:
            picture.save(temporary, quality=90)


class Gallery(_NewFolder):
    """Writes images with their captions as titles into a new folder, and a contact sheet of the first `SHEET` of them.

    Raises ConfigurationError if there is anything in the folder.
    """

    def __init__(self, folder: Path, fonts: Fonts | None = None):
        super().__init__(folder, fonts)
        self._images: list[Image.Image] = []
        self._captions: list[str] = []

    def add(self, path: Path, caption: str) -> None:
        """Write one image as NAME.jpg, with a number if there is one of its name. Raises ImageError."""
        image = decode(path, at_least=1280)
        self._save(draw_title(image, caption, self._fonts), path.stem)
        if len(self._images) < SHEET:
            image.thumbnail((640, 640))
            self._images.append(image)
            self._captions.append(caption)

    def finish(self) -> None:
        """Write the contact sheet, if there are at least two images."""
        if len(self._images) > 1:
            self._save(contact_sheet(self._images, self._captions, self._fonts), SHEET_NAME)


class AttentionGallery(_NewFolder):
    """Writes a picture for each image into a new folder: every word of its caption, over the place it was looked for.

    Raises ConfigurationError if there is anything in the folder.
    """

    def add(self, path: Path, caption: Caption) -> None:
        """Write the picture of one image as NAME.jpg, with a number if there is one of its name.

        Raises:
            ConfigurationError: if the caption has no attention weights.
            ImageError: if the image cannot be read.
        """
        if caption.attention is None:
            raise ConfigurationError(f"{path}: its caption has no attention weights; use a model with attention")
        image = decode(path, at_least=1280)
        drawn = attention_map(image, caption.text, caption.tokens, caption.attention, self._fonts)
        self._save(drawn, path.stem)
