"""captions.h5: indexed and padded captions, each with the row of its image; what training reads.

The layout is that of Stanford CS231n's `coco_captioning` data and of the 2017 tutorial that follows it, so that their
loaders can read this file and this module theirs: `train_captions` and `val_captions` (int32, padded), the image row
of each in `train_image_idx` and `val_image_idx` (CS231n: `.._idxs`), and `NAME_vocab.json` beside it with
`word_to_idx` and `idx_to_word`. Added here, and optional when reading: per split the image file names in row order
and the captions as they were written, and the vocabulary and the source as attributes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from showtell.data import caption_files as captions
from showtell.data.caption_files import Example
from showtell.errors import CaptionFileError, ConfigurationError, import_extra
from showtell.recipe import DataConfig
from showtell.utils.files import atomic_write, memmap_dataset, write_json
from showtell.vocabulary import END, PAD, SPECIAL_TOKENS, UNK, Vocabulary

SPLITS = ("train", "val")
# Texts are read so many at a time: neighbours are asked for together.
TEXTS_AT_ONCE = 1024
# Their names in CS231n's vocabulary, in lower case.
_FOREIGN_SPECIAL_TOKENS = ("<null>", "<start>", "<end>", "<unk>")


@dataclass(frozen=True)
class CaptionSplit:
    """The captions of one split.

    Attributes:
        captions: (M, T) int32: `<start>`, words, `<end>`, then `<pad>`; memory-mapped where the file allows it.
        image_rows: (M,) int32, the row of each caption's image.
        images: file names in row order, or None if the file does not give them.
        texts: the M captions as they were written, or None likewise.
    """

    captions: np.ndarray
    image_rows: np.ndarray
    images: tuple[str, ...] | None = None
    texts: Sequence[str] | None = None


class StoredTexts(Sequence[str]):
    """The texts of a data set in an .h5 file, read when they are asked for: training needs only a few of them."""

    def __init__(self, path: Path, name: str, count: int):
        self._path, self._name, self._count = path, name, count
        self._block = -1
        self._texts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, position: Any) -> Any:
        """Return a text. Raises CaptionFileError if the file is no longer what it was."""
        block, place = divmod(range(self._count)[position], TEXTS_AT_ONCE)
        if block != self._block:
            self._texts, self._block = self._read(block * TEXTS_AT_ONCE), block
        return self._texts[place]

    def _read(self, start: int) -> tuple[str, ...]:
        h5py = import_extra("h5py", "reading captions.h5", "train")
        try:
            with h5py.File(self._path) as file:
                return tuple(file[self._name].asstr()[start : start + TEXTS_AT_ONCE])
        except (OSError, KeyError, ValueError) as error:
            raise CaptionFileError(f"{self._path}: its texts cannot be read any more: {error}") from None


@dataclass(frozen=True)
class CaptionData:
    """A whole captions.h5: its vocabulary and its splits by name ("train", "val")."""

    vocabulary: Vocabulary
    splits: dict[str, CaptionSplit]


def encode_captions(examples: Sequence[Example], vocabulary: Vocabulary, length: int) -> CaptionSplit:
    """Index the captions of the examples, padded to `length`; row i is the i-th example's image."""
    texts = [caption for example in examples for caption in example.captions]
    rows = np.repeat(np.arange(len(examples), dtype=np.int32), [len(example.captions) for example in examples])
    return CaptionSplit(
        vocabulary.encode(texts, length), rows, tuple(example.image for example in examples), tuple(texts)
    )


def vocabulary_path(path: str | Path) -> Path:
    """Return where the vocabulary JSON of a captions file is: `X_captions.h5` has `X_vocab.json`."""
    path = Path(path)
    return path.with_name(path.stem.removesuffix("_captions") + "_vocab.json")


def require_free(path: Path) -> None:
    """Raise ConfigurationError if `path` is no name for a captions.h5, or there is something already."""
    if path.suffix not in (".h5", ".hdf5"):
        raise ConfigurationError(f"{path}: the name of the file to write must end in .h5")
    if path.exists():
        raise _taken(path)


def _taken(path: Path) -> ConfigurationError:
    return ConfigurationError(f"{path}: exists already; remove it first, or give another name")


def write(path: str | Path, data: CaptionData, source: str) -> None:
    """Write captions.h5 and its vocabulary JSON; `source` says where the captions are from.

    Raises ConfigurationError if the vocabulary JSON alone is there, with other words.
    """
    h5py = import_extra("h5py", "writing captions.h5", "train")
    path, words = Path(path), [*data.vocabulary.words]
    vocabulary = {"idx_to_word": words, "word_to_idx": {word: position for position, word in enumerate(words)}}
    # One with the same words was left by a run that was killed between the two; another is somebody's.
    if not path.exists() and vocabulary_path(path).exists() and not _holds(vocabulary_path(path), vocabulary):
        raise _taken(vocabulary_path(path))
    # Made in memory, for HDF5 does not survive a full disk.
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        file.attrs["vocabulary"] = data.vocabulary.to_json()
        file.attrs["source"] = source
        for name, split in data.splits.items():
            file[f"{name}_captions"] = split.captions
            file[f"{name}_image_idx"] = split.image_rows
            # With the type named, h5py need not make an array as wide as the longest text to find it.
            file.create_dataset(f"{name}_images", data=split.images or (), dtype=h5py.string_dtype())
            file.create_dataset(f"{name}_texts", data=split.texts or (), dtype=h5py.string_dtype())
        file.flush()
        content = file.id.get_file_image()
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
        write_json(vocabulary_path(path), vocabulary)


def _holds(path: Path, value: Any) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")) == value)
    except ValueError:
        return False


def read(path: str | Path) -> CaptionData:
    """Read a captions.h5 of ours, of the tutorial or of CS231n.

    Raises:
        CaptionFileError: if it is missing or damaged, lacks a part, or holds ids that its vocabulary does not.
    """
    h5py = import_extra("h5py", "reading captions.h5", "train")
    path = Path(path)
    if not path.exists():
        raise CaptionFileError(f"{path}: no such file; make it with: showtell prepare")
    try:
        with h5py.File(path) as file:
            if "vocabulary" in file.attrs:
                vocabulary = Vocabulary.from_json(file.attrs["vocabulary"])
            else:
                vocabulary = _read_vocabulary(vocabulary_path(path))
            splits = {name: _read_split(path, file, name) for name in SPLITS if f"{name}_captions" in file}
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise CaptionFileError(f"{path}: not a usable captions.h5: {error}") from None
    if "train" not in splits:
        raise CaptionFileError(f"{path}: it has no 'train_captions'; make it with: showtell prepare")
    for name, split in splits.items():
        if split.captions.size and not PAD <= split.captions.min() <= split.captions.max() < len(vocabulary):
            raise CaptionFileError(f"{path}: {name}_captions has ids outside its vocabulary of {len(vocabulary)} words")
        rows = split.image_rows
        if rows.min(initial=0) < 0 or (split.images is not None and rows.max(initial=-1) >= len(split.images)):
            raise CaptionFileError(f"{path}: {name}_captions has image rows outside the list of {name}_images")
    return CaptionData(vocabulary, splits)


def image_names(path: str | Path, split: str) -> tuple[str, ...]:
    """Return the image file names of a split in row order. Raises CaptionFileError if the file does not give them."""
    part = read(path).splits.get(split)
    if part is None or part.images is None:
        raise CaptionFileError(
            f"{path}: it does not name the images of split {split!r}; make it with: showtell prepare"
        )
    return part.images


def _read_split(path: Path, file: Any, name: str) -> CaptionSplit:
    rows_name = f"{name}_image_idx" if f"{name}_image_idx" in file else f"{name}_image_idxs"
    captions, rows = memmap_dataset(path, file[f"{name}_captions"]), file[rows_name][:]
    if captions.ndim != 2 or rows.shape != (len(captions),):
        raise ValueError(f"{name}_captions {captions.shape} and {rows_name} {rows.shape} do not match")
    images = tuple(file[f"{name}_images"].asstr()[:]) if f"{name}_images" in file else None
    texts = None
    if f"{name}_texts" in file:
        texts = StoredTexts(path, f"{name}_texts", len(file[f"{name}_texts"]))
        if len(texts) != len(captions):
            raise ValueError(f"{name}_captions has {len(captions)} rows, but {name}_texts {len(texts)}")
    return CaptionSplit(captions.astype(np.int32, copy=False), rows.astype(np.int32), images, texts)


def _read_vocabulary(path: Path) -> Vocabulary:
    try:
        words = json.loads(path.read_text(encoding="utf-8"))["idx_to_word"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CaptionFileError(f"{path}: cannot read the vocabulary: {error!r}") from None
    if isinstance(words, dict):  # JSON made from a Python dict has its integer keys as strings
        words = [words[key] for key in sorted(words, key=int)]
    first = tuple(str(word).lower() for word in words[:4])
    if first not in (SPECIAL_TOKENS, _FOREIGN_SPECIAL_TOKENS):
        raise CaptionFileError(f"{path}: ids 0 to 3 are {first}, not {SPECIAL_TOKENS}")
    return Vocabulary.from_words(words[4:])


def build_caption_data(examples: Sequence[Example], config: DataConfig, old: Vocabulary | None = None) -> CaptionData:
    """Make the vocabulary of the training captions, and index the captions of both splits with it.

    With an `old` vocabulary, its words keep their ids, and new ones are appended.

    Raises CaptionFileError if no example is for training.
    """
    parts = {split: [example for example in examples if example.split == split] for split in SPLITS}
    if not parts["train"]:
        raise CaptionFileError(
            "none of the captioned images is for training; give a split 'train', or no splits at all"
        )
    texts = (caption for example in parts["train"] for caption in example.captions)
    size, least = config.vocabulary_size, config.min_count
    vocabulary = old.extended(texts, size, least) if old else Vocabulary.build(texts, size, least, config.tokenizer)
    splits = {split: encode_captions(part, vocabulary, config.max_length) for split, part in parts.items() if part}
    return CaptionData(vocabulary, splits)


def summary(data: CaptionData) -> str:
    """Describe captions in a few lines: images, captions, words, share of unknown words, lengths, how many are cut."""
    noun = data.vocabulary.noun
    lines = [f"vocabulary: {len(data.vocabulary)} {noun}, special tokens included"]
    for name, split in data.splits.items():
        words = split.captions[split.captions > END]  # <unk> is a word that was there
        known = split.captions[split.captions > UNK]
        unknown = (len(words) - len(known)) / max(len(words), 1)
        lengths = (split.captions > END).sum(axis=1)
        least, quarter, half, three_quarters, most = np.quantile(lengths, (0, 0.25, 0.5, 0.75, 1), method="nearest")
        lines.append(
            f"{name}: {len(split.images or ())} images, {len(split.captions)} captions, "
            f"{unknown:.2%} of {noun} unknown; "
            f"{noun} a caption: {least} to {most}, median {half}, half of them {quarter} to {three_quarters}"
        )
        if cut := _cut(split, data.vocabulary):
            length = split.captions.shape[1]
            lines.append(
                f"{name}: {cut} of {len(split.captions)} captions are cut after {length - 2} {noun}; a --max-length "
                f"above {length} leaves more whole"
            )
    return "\n".join(lines)


def _cut(split: CaptionSplit, vocabulary: Vocabulary) -> int:
    """Return how many captions were longer than their row."""
    rows = np.flatnonzero(split.captions[:, -1] == END)
    texts = [split.texts[row] for row in rows.tolist()] if split.texts else []
    return int((vocabulary.encode(texts, split.captions.shape[1] + 1)[:, -1] == END).sum())


def load_examples(
    path: Path | None, parts: Mapping[str, Path | None], lists: Mapping[str, Path | None], format_: str | None = None
) -> list[Example]:
    """Read the captions for training and validation, from one file or from a file for each split.

    Args:
        path: a file with all captions; if it says nothing of splits, a tenth of its images is held out for validation.
        parts: instead of `path`, a file for each split.
        lists: lists of the images of each split, for formats that have them.
        format_: the files' format; by default it is recognised.

    Raises:
        ConfigurationError: unless one of `path` and `parts` is given.
        CaptionFileError: if a file cannot be understood.
    """
    files = {split: file for split, file in parts.items() if file is not None}
    if (path is None) == (not files) or (files and "train" not in files):
        raise ConfigurationError("give --captions with all captions, or --train and --val with those of each split")
    named = {split: file for split, file in lists.items() if file is not None}
    if path is None:
        if named or len(set(files.values())) < len(files):
            raise ConfigurationError("--train and --val take a caption file each, two different ones, and no lists")
        read_in = {split: captions.read_caption_file(file, format_) for split, file in files.items()}
        return [
            example
            for split, examples in read_in.items()
            for example in captions.with_split([one for one in examples if one.split in (None, split)], split)
        ]
    examples = captions.read_caption_file(path, format_, named or None)
    if all(example.split is None for example in examples):
        return captions.split_holdout(examples)
    # Where only some rows have a split, the others are for training.
    return [
        replace(example, split=example.split or "train") for example in examples if example.split in (None, *SPLITS)
    ]


def with_images(
    examples: Sequence[Example], folders: Sequence[Path], skip_missing: bool, say: Callable[[str], None]
) -> list[Example]:
    """Compare captions with the images of one folder, or of a folder for each split; return those whose image is there.

    Raises CaptionFileError if images are missing, and `skip_missing` is false or all are.
    """
    if len(folders) == 1:
        return _in_folder(examples, folders[0], skip_missing, say)
    return [
        example
        for split, folder in zip(SPLITS, folders, strict=True)
        for example in _in_folder([one for one in examples if one.split == split], folder, skip_missing, say)
    ]


def _in_folder(
    examples: Sequence[Example], images: Path, skip_missing: bool, say: Callable[[str], None]
) -> list[Example]:
    matching = captions.match_images(examples, images)
    if matching.missing:
        problem = f"{len(matching.missing)} of {len(examples)} captioned images are not in {images}"
        if not skip_missing or not matching.found:
            advice = "name the right folder, or leave them out with --skip-missing"
            if matching.missing[0].startswith(f"{images.name}/"):
                advice = f"their names begin with {images.name}/, so name the folder that it is in: {images.parent}"
            raise CaptionFileError(f"{problem} ({_some(matching.missing)}); {advice}")
        say(f"{problem} ({_some(matching.missing)}); left out")
    if matching.uncaptioned:
        say(f"{len(matching.uncaptioned)} images in {images} have no caption ({_some(matching.uncaptioned)}); left out")
    return list(matching.found)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", .." if len(names) > 3 else "")
