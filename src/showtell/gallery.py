"""A folder of captioned pictures."""

from pathlib import Path

from PIL import Image

from showtell.drawing import contact_sheet, titled
from showtell.files import require_new, written_whole
from showtell.images import decode

SHEET = 32
SHEET_NAME = "contact-sheet"


class Gallery:
    """Writes images with their captions as titles into a folder, and a contact sheet of the first `SHEET` of them.

    Raises ConfigurationError if there is anything in the folder, so that no file of a person is overwritten.
    """

    def __init__(self, folder: Path):
        require_new(folder, "the annotated images")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._names = {SHEET_NAME}
        self._images: list[Image.Image] = []
        self._captions: list[str] = []

    def add(self, path: Path, caption: str) -> None:
        """Write one image as NAME.jpg, with a number if there is one of its name. Raises ImageError."""
        image = decode(path, at_least=1280)
        name, number = path.stem, 2
        while name in self._names:
            name, number = f"{path.stem}-{number}", number + 1
        self._names.add(name)
        self._save(titled(image, caption), name)
        if len(self._images) < SHEET:
            image.thumbnail((640, 640))
            self._images.append(image)
            self._captions.append(caption)

    def finish(self) -> None:
        """Write the contact sheet, if there are at least two images."""
        if len(self._images) > 1:
            self._save(contact_sheet(self._images, self._captions), SHEET_NAME)

    def _save(self, image: Image.Image, name: str) -> None:
        with written_whole(self._folder / f"{name}.jpg") as temporary:
            image.save(temporary, quality=90)
