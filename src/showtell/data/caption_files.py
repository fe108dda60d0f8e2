"""Caption files: which captions belong to which image, and to which split."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from showtell.data.formats import READERS, Row, detect_format, numbered_lines, shorten
from showtell.errors import CaptionFileError, ConfigurationError

# Split name in a caption file, or in the name of an image list -> split.
_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "restval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

_FLICKR_LIST = re.compile(rf"(?<![a-z])({'|'.join(_SPLIT_NAMES)})[ _.-]?images?\.txt$", re.IGNORECASE)
# JSON allows NUL and lone surrogates, but file names cannot contain NUL, and UTF-8 cannot encode surrogates.
_INVALID_CHARACTERS = re.compile("[\0\ud800-\udfff]")
_LETTER = re.compile(r"[^\W_]")


@dataclass(frozen=True)
class Example:
    """An image and its reference captions.

    Attributes:
        image: path of the image relative to the image folder, with "/" as separator.
        captions: one or more captions without line breaks, in the order of the caption file.
        split: "train", "val" or "test"; None if the caption file has no split for the image.
    """

    image: str
    captions: tuple[str, ...]
    split: str | None = None


def read_caption_file(
    path: str | Path,
    format: str | None = None,  # noqa: A002
    lists: Mapping[str, str | Path] | None = None,
) -> list[Example]:
    """Read a caption file into one example per image, in order of first occurrence.

    All formats are UTF-8 text:

    - "coco": the JSON of MS-COCO, captions_*.json.
    - "karpathy": the JSON of Karpathy's splits, dataset_*.json. The split "restval" counts as "train".
    - "flickr": the token files of Flickr8k and Flickr30k, lines of `NAME#NUMBER<tab>CAPTION`.
    - "csv" (separated by `,`, `;` or `|`), "tsv" and "jsonl": a file name, a caption and an optional split per row.
      Columns have common names such as file_name, caption and split. In JSON Lines a caption may be a list.

    Captions without a letter or digit are skipped. Images that have no other captions are skipped too.

    Args:
        path: the file, or a folder with a metadata.csv or metadata.jsonl (Hugging Face imagefolder).
        format: one of the names above; by default it is detected.
        lists: split -> path of a list of image names, one per line. The lists replace the splits of the caption file,
            and images in no list are skipped. By default, token files use the lists in the same folder with names like
            Flickr_8k.trainImages.txt.

    Raises:
        CaptionFileError: if the file cannot be parsed or has no captions.
        ConfigurationError: if `format` or a split of `lists` is unknown.
    """
    if format is not None and format not in READERS:
        raise ConfigurationError(f"unknown caption format {format!r}; expected one of: {', '.join(READERS)}")
    path = _find_metadata(Path(path)) if Path(path).is_dir() else Path(path)
    with _prefix_errors(path):
        text = _read_text(path)
        detected = format or detect_format(path, text)
        examples = _group_by_image(READERS[detected](text))
        if not examples:
            raise CaptionFileError("the file has no captions")
    if lists is None:
        lists = _find_flickr_lists(path) if detected == "flickr" else {}
    return _apply_lists(examples, lists) if lists else examples


def parse_split(name: str) -> str:
    """Return "train", "val" or "test" for a split name such as "training" or "dev".

    Raises:
        ConfigurationError: if the name is unknown.
    """
    split = _SPLIT_NAMES.get(name.strip().lower())
    if split is None:
        raise ConfigurationError(f"unknown split {shorten(name)}; expected one of: {', '.join(_SPLIT_NAMES)}")
    return split


@contextmanager
def _prefix_errors(path: Path) -> Iterator[None]:
    """Add the path of the file to the message of a CaptionFileError."""
    try:
        yield
    except CaptionFileError as error:
        raise CaptionFileError(f"{path}: {error}") from None


def _read_text(path: Path) -> str:
    """Return the content of a file with Unix line endings."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CaptionFileError(f"cannot read the file: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CaptionFileError(f"line {line}: not UTF-8 text; save the file as UTF-8") from None
    if not text.strip():
        raise CaptionFileError("the file is empty")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _find_metadata(folder: Path) -> Path:
    files = [path for path in (folder / "metadata.csv", folder / "metadata.jsonl") if path.is_file()]
    if len(files) != 1:
        problem = (
            "the folder has both metadata.csv and metadata.jsonl"
            if files
            else "the folder has no metadata.csv or metadata.jsonl"
        )
        raise CaptionFileError(f"{folder}: {problem}; pass a caption file with --captions")
    return files[0]


def _group_by_image(rows: Iterable[Row]) -> list[Example]:
    images: dict[str, str] = {}  # name in the file -> normalised path
    captions: dict[str, list[str]] = {}
    splits: dict[str, str] = {}
    for row in rows:
        image = images.get(row.image)
        if image is None:
            image = images[row.image] = _normalise_image_path(row.image, row.location)
            captions.setdefault(image, [])
        if row.split and row.split.strip():
            _set_split(splits, image, row.split, row.location)
        captions[image] += _clean_captions(row.captions, row.location)
    return [Example(image, tuple(texts), splits.get(image)) for image, texts in captions.items() if texts]


def _set_split(splits: dict[str, str], image: str, name: str, location: str) -> None:
    try:
        split = parse_split(name)
    except ConfigurationError as error:
        raise CaptionFileError(f"{location}: {error}") from None
    previous = splits.setdefault(image, split)
    if split != previous:
        raise CaptionFileError(
            f"{location}: {shorten(image)} is in split {split}, but was in {previous} before; expected one split per "
            "image"
        )


def _clean_captions(texts: Iterable[str], location: str) -> Iterator[str]:
    """Collapse whitespace, and skip captions without a letter or digit: they have no word to learn or score."""
    for text in texts:
        if _INVALID_CHARACTERS.search(text):
            raise CaptionFileError(f"{location}: a caption contains an invalid character: {shorten(text)}")
        if _LETTER.search(text):
            yield " ".join(text.split())


def _normalise_image_path(name: str, location: str) -> str:
    """Return a relative path with "/", and reject paths that could lead out of the image folder."""
    path = name.strip().replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    is_outside = path.startswith("/") or ".." in parts or re.match("[A-Za-z]:", path)
    if not parts or is_outside or _INVALID_CHARACTERS.search(path):
        raise CaptionFileError(
            f"{location}: invalid image name {shorten(name)}; expected a path inside the image folder, without '..'"
        )
    return "/".join(parts)


def _find_flickr_lists(path: Path) -> dict[str, Path]:
    """Find the image lists of the splits in the folder of a token file."""
    lists: dict[str, Path] = {}
    for file in sorted(path.parent.iterdir()):
        if match := _FLICKR_LIST.search(file.name):
            split = parse_split(match[1])
            if split in lists:
                raise CaptionFileError(
                    f"{file}: {lists[split].name} in the same folder is also a list of split {split}; keep only one"
                )
            lists[split] = file
    return lists


def _apply_lists(examples: Sequence[Example], lists: Mapping[str, str | Path]) -> list[Example]:
    """Return the examples that are in a list, with the split of that list."""
    captioned = {example.image for example in examples}
    splits: dict[str, str] = {}
    for name, path in lists.items():
        split = parse_split(name)
        with _prefix_errors(Path(path)):
            images = [
                (location, _normalise_image_path(line, location))
                for location, line in numbered_lines(_read_text(Path(path)))
            ]
            for location, image in images:
                if splits.setdefault(image, split) != split:
                    raise CaptionFileError(f"{location}: {shorten(image)} is also in the list of split {splits[image]}")
            if not any(image in captioned for _, image in images):
                raise CaptionFileError(
                    f"the list contains no captioned image; expected names such as {shorten(examples[0].image)}"
                )
    return [replace(example, split=splits[example.image]) for example in examples if example.image in splits]
