"""Caption files: which captions belong to which image, and to which split."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from showtell import images
from showtell.data.formats import READERS, Row, detect_format, lines, shorten
from showtell.errors import CaptionFileError, ConfigurationError, ImageError

_SPLITS = {
    **dict.fromkeys(("train", "training", "restval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

_FLICKR_LIST = re.compile(rf"(?<![a-z])({'|'.join(_SPLITS)})[ _.-]?images?\.txt$", re.IGNORECASE)
# JSON can spell both, but no file name can hold the first, and no UTF-8 the others.
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_LETTER = re.compile(r"[^\W_]")


@dataclass(frozen=True)
class Example:
    """An image and what people said of it.

    Attributes:
        image: the file's path relative to the image folder, with "/" between its parts.
        captions: one or more texts without line breaks, in the order of the caption file.
        split: "train", "val" or "test"; None if the caption file says nothing.
    """

    image: str
    captions: tuple[str, ...]
    split: str | None = None


@dataclass(frozen=True)
class Matching:
    """What a caption file and an image folder have in common.

    Attributes:
        found: the examples whose image is in the folder.
        missing: the images with captions that are not in the folder.
        uncaptioned: the images in the folder, hidden ones aside, that have no captions.
    """

    found: tuple[Example, ...]
    missing: tuple[str, ...]
    uncaptioned: tuple[str, ...]


def read_caption_file(
    path: str | Path,
    format: str | None = None,  # noqa: A002
    lists: Mapping[str, str | Path] | None = None,
) -> list[Example]:
    """Read a caption file: one example per image, in the order in which the file first names them.

    The formats, all UTF-8 text:

    - "coco": the JSON of MS-COCO's captions_*.json.
    - "karpathy": the JSON of Karpathy's splits, dataset_*.json; its split "restval" counts as train.
    - "flickr": Flickr8k's and 30k's token files, lines of `NAME#NUMBER<tab>CAPTION`.
    - "csv" (`,`, `;` or `|`), "tsv" and "jsonl": a file name, a caption and perhaps a split per row, in columns with
      any of a few usual names, such as file_name, caption and split. In JSON Lines the caption may be a list.

    Blank captions are dropped, and with them images that have no other.

    Args:
        path: the file, or a folder with a metadata.csv or metadata.jsonl (Hugging Face imagefolder).
        format: one of the names above, if the content does not tell.
        lists: split -> path of a list of image names, one a line. If there are any, they alone say which image is in
            which split, and images in none of them are left out. For a token file, the default is the lists beside it
            that are named like Flickr_8k.trainImages.txt.

    Raises:
        CaptionFileError: if the file cannot be understood or holds no caption.
        ConfigurationError: if `format` or a split of `lists` is unknown.
    """
    if format is not None and format not in READERS:
        raise ConfigurationError(f"the caption format {format!r} is unknown; expected one of: {', '.join(READERS)}")
    path = _metadata_in(Path(path)) if Path(path).is_dir() else Path(path)
    with _naming(path):
        text = _text(path)
        reader = format or detect_format(path, text)
        examples = _gather(READERS[reader](text))
        if not examples:
            raise CaptionFileError("there is no caption in it")
    if lists is None:
        lists = _lists_beside(path) if reader == "flickr" else {}
    return _assign(examples, lists) if lists else examples


def with_split(examples: Iterable[Example], split: str) -> list[Example]:
    """Return the same examples with `split` set, for data that come in one file per split, as COCO's do.

    Raises ConfigurationError if `split` is no split.
    """
    split = _split(split)
    return [replace(example, split=split) for example in examples]


def split_holdout(examples: Sequence[Example], share: float = 0.1) -> list[Example]:
    """Divide examples without splits into train and val.

    The choice goes by a hash of the image's name alone: it does not depend on the order of the examples, and as a data
    set grows, most images keep their split. Of two or more images, at least one goes to either side.

    Args:
        examples: examples of which none has a split.
        share: the part that goes to val, above 0 and below 1.

    Raises:
        ConfigurationError: if `share` is out of range, or an example has a split already.
    """
    if not 0 < share < 1:
        raise ConfigurationError(f"a share of {share} cannot be held out; it must be above 0 and below 1")
    if any(example.split for example in examples):
        raise ConfigurationError("some of these examples are in a split already; hold out only from examples without")
    count = min(max(1, round(share * len(examples))), len(examples) - 1)
    ordered = sorted((example.image for example in examples), key=lambda name: hashlib.sha256(name.encode()).digest())
    held = set(ordered[: max(0, count)])
    return [replace(example, split="val" if example.image in held else "train") for example in examples]


def match_images(examples: Iterable[Example], folder: str | Path) -> Matching:
    """Compare examples with the image files in a folder and below; only the very same relative paths match.

    Raises ImageError if there is no such folder.
    """
    if not Path(folder).is_dir():
        raise ImageError(f"{str(folder)!r}: no such folder of images")
    present = dict.fromkeys(path.relative_to(folder).as_posix() for path in images.find_images([folder]))
    examples = list(examples)
    captioned = {example.image for example in examples}
    return Matching(
        found=tuple(example for example in examples if example.image in present),
        missing=tuple(example.image for example in examples if example.image not in present),
        uncaptioned=tuple(name for name in present if name not in captioned),
    )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except CaptionFileError as error:
        raise CaptionFileError(f"{path}: {error}") from None


def _text(path: Path) -> str:
    """Return the text of a file, with the line ends of Unix."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CaptionFileError(f"cannot be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CaptionFileError(f"line {line}: not UTF-8 text; save the file as UTF-8") from None
    if not text.strip():
        raise CaptionFileError("the file is empty")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _metadata_in(folder: Path) -> Path:
    files = [path for path in (folder / "metadata.csv", folder / "metadata.jsonl") if path.is_file()]
    if len(files) != 1:
        found = (
            "metadata.csv and metadata.jsonl are both in it" if files else "there is no metadata.csv or .jsonl in it"
        )
        raise CaptionFileError(f"{folder}: {found}; name a caption file with --captions")
    return files[0]


def _gather(rows: Iterable[Row]) -> list[Example]:
    """Join the rows of each image."""
    images: dict[str, str] = {}  # by the name that the file gives them
    captions: dict[str, list[str]] = {}
    splits: dict[str, str] = {}
    for where, name, texts, word in rows:
        image = images.get(name)
        if image is None:
            image = images[name] = _image_name(name, where)
            captions.setdefault(image, [])
        if word and word.strip():
            split = _split(word, where)
            known = splits.setdefault(image, split)
            if split != known:
                raise CaptionFileError(
                    f"{where}: {shorten(image)} is in {split} here, but in {known} before; expected one"
                )
        for text in texts:
            if _UNUSABLE.search(text):
                raise CaptionFileError(f"{where}: a caption with a character that is no text: {shorten(text)}")
            # A caption of blanks and punctuation alone has no word to learn or to score.
            if _LETTER.search(text):
                captions[image].append(" ".join(text.split()))
    return [Example(image, tuple(lines), splits.get(image)) for image, lines in captions.items() if lines]


def _image_name(name: str, where: str) -> str:
    """Return the name as a relative path with "/", refusing all that could lead out of the image folder."""
    path = name.strip().replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or path.startswith("/") or ".." in parts or re.match("[A-Za-z]:", path) or _UNUSABLE.search(path):
        raise CaptionFileError(
            f"{where}: the image name {shorten(name)}; expected the path of a file inside the image folder, without .."
        )
    return "/".join(parts)


def _split(word: str, where: str | None = None) -> str:
    split = _SPLITS.get(word.strip().lower())
    if split is None:
        problem = f"the split {shorten(word)} is unknown; expected one of: {', '.join(_SPLITS)}"
        raise CaptionFileError(f"{where}: {problem}") if where else ConfigurationError(problem)
    return split


def _lists_beside(path: Path) -> dict[str, Path]:
    """Find the split lists in the folder of a token file."""
    lists: dict[str, Path] = {}
    for file in sorted(path.parent.iterdir()):
        if match := _FLICKR_LIST.search(file.name):
            split = _SPLITS[match[1].lower()]
            if split in lists:
                raise CaptionFileError(f"{file}: {lists[split].name} beside it is a list of {split} too; expected one")
            lists[split] = file
    return lists


def _assign(examples: Sequence[Example], lists: Mapping[str, str | Path]) -> list[Example]:
    """Return the examples that are in a list, each with its split."""
    captioned = {example.image for example in examples}
    splits: dict[str, str] = {}
    for word, path in lists.items():
        split = _split(word)
        with _naming(Path(path)):
            names = [(where, _image_name(line, where)) for where, line in lines(_text(Path(path)))]
            for where, name in names:
                if splits.setdefault(name, split) != split:
                    raise CaptionFileError(f"{where}: {shorten(name)} is in the list of {splits[name]} too")
            if not any(name in captioned for _, name in names):
                raise CaptionFileError(
                    f"none of its lines is an image with captions; expected names such as {shorten(examples[0].image)}"
                )
    return [replace(example, split=splits[example.image]) for example in examples if example.image in splits]
