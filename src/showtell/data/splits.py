"""Gathering examples for training: read caption files, assign splits, and match examples with image files."""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from showtell.data.caption_files import Example, parse_split, read_caption_file
from showtell.errors import CaptionFileError, ConfigurationError, ImageError
from showtell.images import find_images

SPLITS = ("train", "val")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageMatch:
    """The comparison of a caption file with an image folder.

    Attributes:
        found: examples whose image is in the folder.
        missing: captioned images that are not in the folder.
        uncaptioned: images in the folder without captions, except hidden files.
    """

    found: tuple[Example, ...]
    missing: tuple[str, ...]
    uncaptioned: tuple[str, ...]


def load_examples(
    captions: Path | None,
    split_files: Mapping[str, Path | None] = {},
    image_lists: Mapping[str, Path | None] = {},
    caption_format: str | None = None,
) -> list[Example]:
    """Read the examples for training and validation from one caption file, or from one file per split.

    If one file has no splits at all, a tenth of its images is held out for validation. If only some rows have a split,
    the other rows belong to "train".

    Args:
        captions: a caption file with all captions.
        split_files: split -> caption file, instead of `captions`. Splits with None are ignored.
        image_lists: split -> list of image names, for formats with separate lists (Flickr8k and Flickr30k).
        caption_format: the format of the files; by default it is detected.

    Returns:
        The examples of the splits "train" and "val".

    Raises:
        ConfigurationError: if `captions` and `split_files` are both missing or both set, or the files are inconsistent.
        CaptionFileError: if a file cannot be read.
    """
    files = {split: file for split, file in split_files.items() if file is not None}
    lists = {split: file for split, file in image_lists.items() if file is not None}
    if (captions is None) == (not files) or (files and "train" not in files):
        raise ConfigurationError("pass --captions with all captions, or --train and --val with one file per split")
    if captions is None:
        if lists or len(set(files.values())) < len(files):
            raise ConfigurationError("--train and --val need two different caption files, and exclude image lists")
        return [
            example
            for split, file in files.items()
            for example in with_split(
                (example for example in read_caption_file(file, caption_format) if example.split in (None, split)),
                split,
            )
        ]
    examples = read_caption_file(captions, caption_format, lists or None)
    if all(example.split is None for example in examples):
        return split_holdout(examples)
    return [
        replace(example, split=example.split or "train") for example in examples if example.split in (None, *SPLITS)
    ]


def read_split(captions: Path, split: str, caption_format: str | None = None) -> list[Example]:
    """Read the examples of one split of a caption file.

    If the file has no splits, its images are split in the same way as in training.

    Args:
        captions: the caption file.
        split: "train", "val", "dev" (the same as "val"), "test" or "all".
        caption_format: the format of the file; by default it is detected.

    Raises:
        CaptionFileError: if the file cannot be read.
        ConfigurationError: if the split is empty.
    """
    split_name = "val" if split == "dev" else split
    examples = read_caption_file(captions, caption_format)
    if all(example.split is None for example in examples):
        examples = split_holdout(examples)
        if split_name != "all":
            count = sum(example.split == split_name for example in examples)
            logger.info(
                "%s: no splits in the file; using the %d of %d images that training assigns to %s. Use --split all for "
                "all images.",
                *(captions, count, len(examples), split),
            )
    chosen = [example for example in examples if split_name in ("all", example.split)]
    if not chosen:
        available = sorted({example.split for example in examples if example.split})
        raise ConfigurationError(
            f"{captions}: no captions in split {split!r}; available splits: {', '.join(available)}"
        )
    return chosen


def with_split(examples: Iterable[Example], split: str) -> list[Example]:
    """Return copies of the examples with `split` set, for data sets with one caption file per split.

    Raises:
        ConfigurationError: if `split` is unknown.
    """
    split = parse_split(split)
    return [replace(example, split=split) for example in examples]


def split_holdout(examples: Sequence[Example], share: float = 0.1) -> list[Example]:
    """Assign examples without splits to "train" and "val".

    The assignment depends on a hash of the image name only. It does not depend on the order of the examples, and most
    images keep their split when the data set grows. With two or more images, both splits get at least one.

    Args:
        examples: examples without a split.
        share: the share of images in "val", between 0 and 1 (exclusive).

    Raises:
        ConfigurationError: if `share` is out of range, or an example already has a split.
    """
    if not 0 < share < 1:
        raise ConfigurationError(f"the held-out share is {share}; it must be above 0 and below 1")
    if any(example.split for example in examples):
        raise ConfigurationError("some examples already have a split; images can be held out only if none has one")
    count = min(max(1, round(share * len(examples))), len(examples) - 1)
    ordered = sorted((example.image for example in examples), key=lambda name: hashlib.sha256(name.encode()).digest())
    held_out = set(ordered[: max(0, count)])
    return [replace(example, split="val" if example.image in held_out else "train") for example in examples]


def match_images(examples: Iterable[Example], folder: str | Path) -> ImageMatch:
    """Compare examples with the image files in a folder and its subfolders. Relative paths must match exactly.

    Raises:
        ImageError: if the folder does not exist.
    """
    if not Path(folder).is_dir():
        raise ImageError(f"{str(folder)!r}: no such image folder")
    present = dict.fromkeys(path.relative_to(folder).as_posix() for path in find_images([folder]))
    examples = list(examples)
    captioned = {example.image for example in examples}
    return ImageMatch(
        found=tuple(example for example in examples if example.image in present),
        missing=tuple(example.image for example in examples if example.image not in present),
        uncaptioned=tuple(name for name in present if name not in captioned),
    )


def select_with_images(examples: Sequence[Example], folders: Sequence[Path], skip_missing: bool) -> list[Example]:
    """Return the examples whose image exists, and log the number of mismatches.

    Args:
        examples: images with captions.
        folders: one image folder, or one for each of the splits "train" and "val".
        skip_missing: skip examples without an image instead of raising an error.

    Raises:
        CaptionFileError: if images are missing and `skip_missing` is false, or if all are missing.
    """
    if len(folders) == 1:
        return _select_in_folder(examples, folders[0], skip_missing)
    return [
        example
        for split, folder in zip(SPLITS, folders, strict=True)
        for example in _select_in_folder([one for one in examples if one.split == split], folder, skip_missing)
    ]


def _select_in_folder(examples: Sequence[Example], folder: Path, skip_missing: bool) -> list[Example]:
    match = match_images(examples, folder)
    if match.missing:
        problem = f"{len(match.missing)} of {len(examples)} captioned images are not in {folder}"
        if not skip_missing or not match.found:
            hint = "pass the right folder, or skip them with --skip-missing"
            if match.missing[0].startswith(f"{folder.name}/"):
                hint = f"their names start with {folder.name}/, so pass its parent folder: {folder.parent}"
            raise CaptionFileError(f"{problem} ({_first_names(match.missing)}); {hint}")
        logger.warning("skipped: %s (%s)", problem, _first_names(match.missing))
    if match.uncaptioned:
        names = _first_names(match.uncaptioned)
        logger.info("skipped: %d images in %s have no caption (%s)", len(match.uncaptioned), folder, names)
    return list(match.found)


def _first_names(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", .." if len(names) > 3 else "")
