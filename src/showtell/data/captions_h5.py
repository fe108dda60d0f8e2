"""The captions.h5 format: padded token ids of captions, and the image row of each caption.

The layout is that of Stanford CS231n's `coco_captioning` data set and of the 2017 tutorial based on it, so each project
can read the files of the others. `train_captions` and `val_captions` hold the token ids (M, T) int32, and
`train_image_idx` and `val_image_idx` (CS231n: `.._idxs`) the image rows (M,). The vocabulary is in the JSON file
`NAME_vocab.json` in the same folder, with the keys `word_to_idx` and `idx_to_word`.

For each split, showtell adds the image file names in row order and the original captions. It adds the vocabulary and
the source as attributes. All of these are optional when reading.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from showtell.data.caption_files import Example
from showtell.data.splits import SPLITS
from showtell.errors import CaptionFileError, ConfigurationError, VocabularyError, import_extra
from showtell.recipe import DataConfig
from showtell.utils.files import atomic_write, memmap_dataset, write_json
from showtell.vocabulary import END, PAD, SPECIAL_TOKENS, UNK, Vocabulary

# The special tokens in CS231n's vocabulary, in lower case.
_CS231N_SPECIAL_TOKENS = ("<null>", "<start>", "<end>", "<unk>")


@dataclass(frozen=True)
class CaptionSplit:
    """The captions of one split.

    Attributes:
        captions: (M, T) int32 token ids: `<start>`, the tokens, `<end>`, then `<pad>`. Memory-mapped if the file is not
            compressed.
        image_rows: (M,) int32, the row of each caption's image.
        images: image file names in row order; None if the file does not contain them.
        texts: the M original captions; None if the file does not contain them.
    """

    captions: np.ndarray
    image_rows: np.ndarray
    images: tuple[str, ...] | None = None
    texts: tuple[str, ...] | None = None

    def count_truncated(self, vocabulary: Vocabulary) -> int:
        """Return the number of captions that were longer than T tokens; 0 if the original captions are unknown."""
        full_rows = np.flatnonzero(self.captions[:, -1] == END)
        texts = [self.texts[row] for row in full_rows.tolist()] if self.texts else []
        return int((vocabulary.encode(texts, self.captions.shape[1] + 1)[:, -1] == END).sum())


@dataclass(frozen=True)
class CaptionData:
    """The content of a captions.h5 file.

    Attributes:
        vocabulary: the vocabulary of the token ids.
        splits: the captions of "train" and, if the data has validation images, of "val".
    """

    vocabulary: Vocabulary
    splits: dict[str, CaptionSplit]

    def summary(self) -> str:
        """Describe the data in a few lines: vocabulary size, images, captions, unknown words and caption lengths."""
        lines = [f"vocabulary: {len(self.vocabulary)} {self.vocabulary.unit}, including special tokens"]
        for name, split in self.splits.items():
            lines += self._summarize_split(name, split)
        return "\n".join(lines)

    def _summarize_split(self, name: str, split: CaptionSplit) -> list[str]:
        unit = self.vocabulary.unit
        words = split.captions[split.captions > END]  # includes <unk>
        unknown_share = (words == UNK).sum() / max(len(words), 1)
        lengths = (split.captions > END).sum(axis=1)
        minimum, lower, median, upper, maximum = np.quantile(lengths, (0, 0.25, 0.5, 0.75, 1), method="nearest")
        lines = [
            f"{name}: {len(split.images or ())} images, {len(split.captions)} captions, "
            f"{unknown_share:.2%} of {unit} unknown; "
            f"{unit} per caption: {minimum} to {maximum}, median {median}, interquartile range {lower} to {upper}"
        ]
        if truncated := split.count_truncated(self.vocabulary):
            length = split.captions.shape[1]
            lines.append(
                f"{name}: {truncated} of {len(split.captions)} captions are truncated to {length - 2} {unit}; "
                f"increase --max-length from {length} to truncate fewer"
            )
        return lines


def encode_captions(examples: Sequence[Example], vocabulary: Vocabulary, length: int) -> CaptionSplit:
    """Encode the captions of examples as rows of `length` token ids. Image row i belongs to the i-th example."""
    texts = tuple(caption for example in examples for caption in example.captions)
    rows = np.repeat(np.arange(len(examples), dtype=np.int32), [len(example.captions) for example in examples])
    return CaptionSplit(vocabulary.encode(texts, length), rows, tuple(example.image for example in examples), texts)


def build_caption_data(examples: Sequence[Example], config: DataConfig, base: Vocabulary | None = None) -> CaptionData:
    """Build the vocabulary from the training captions, and encode the captions of both splits.

    Args:
        examples: images with captions; those in splits other than "train" and "val" are ignored.
        config: tokenizer, vocabulary size, minimum count and maximum caption length.
        base: a vocabulary to extend. Its tokens keep their ids.

    Raises:
        CaptionFileError: if no example is in the split "train".
        ConfigurationError: if no word of the captions enters the vocabulary.
    """
    by_split = {split: [example for example in examples if example.split == split] for split in SPLITS}
    if not by_split["train"]:
        raise CaptionFileError("no captioned image is in the split 'train'; assign some to it, or remove all splits")
    texts = (caption for example in by_split["train"] for caption in example.captions)
    size, min_count = config.vocabulary_size, config.min_count
    if base:
        vocabulary = base.extend(texts, size, min_count)
    else:
        vocabulary = Vocabulary.build(texts, size, min_count, config.tokenizer)
    if len(vocabulary) == len(SPECIAL_TOKENS):
        raise ConfigurationError(
            f"the vocabulary is empty: no {vocabulary.unit} occur {min_count} times or more; lower --min-count"
        )
    splits = {name: encode_captions(part, vocabulary, config.max_length) for name, part in by_split.items() if part}
    return CaptionData(vocabulary, splits)


def vocabulary_path(path: str | Path) -> Path:
    """Return the path of the vocabulary JSON of a captions file: `X_vocab.json` for `X_captions.h5`."""
    path = Path(path)
    return path.with_name(path.stem.removesuffix("_captions") + "_vocab.json")


def require_new_captions_h5(path: Path) -> None:
    """Raise ConfigurationError if `path` does not end in .h5, or exists."""
    if path.suffix not in (".h5", ".hdf5"):
        raise ConfigurationError(f"{path}: the name of the output file must end in .h5")
    if path.exists():
        raise _exists_error(path)


def _exists_error(path: Path) -> ConfigurationError:
    return ConfigurationError(f"{path}: already exists; remove it or choose another name")


def write_captions_h5(path: str | Path, data: CaptionData, source: str) -> None:
    """Write captions.h5 and its vocabulary JSON.

    Args:
        path: the .h5 file. An existing file is replaced.
        data: vocabulary and captions.
        source: where the captions come from, as a note for readers of the file.

    Raises:
        ConfigurationError: if the vocabulary JSON exists without the .h5 file, and contains other words.
    """
    h5py = import_extra("h5py", "writing captions.h5", "train")
    path, words = Path(path), [*data.vocabulary.tokens]
    vocabulary = {"idx_to_word": words, "word_to_idx": {word: index for index, word in enumerate(words)}}
    # An interrupted run may leave a vocabulary file with the same words. Any other file must not be overwritten.
    if not path.exists() and vocabulary_path(path).exists() and not _contains(vocabulary_path(path), vocabulary):
        raise _exists_error(vocabulary_path(path))
    # The file is built in memory because HDF5 crashes on a full disk.
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        file.attrs["vocabulary"] = data.vocabulary.to_json()
        file.attrs["source"] = source
        for name, split in data.splits.items():
            file[f"{name}_captions"] = split.captions
            file[f"{name}_image_idx"] = split.image_rows
            # Without an explicit type, h5py makes a temporary array as wide as the longest text.
            file.create_dataset(f"{name}_images", data=split.images or (), dtype=h5py.string_dtype())
            file.create_dataset(f"{name}_texts", data=split.texts or (), dtype=h5py.string_dtype())
        file.flush()
        content = file.id.get_file_image()
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
        write_json(vocabulary_path(path), vocabulary)


def _contains(path: Path, value: Any) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")) == value)
    except ValueError:
        return False


def read_captions_h5(path: str | Path) -> CaptionData:
    """Read a captions.h5 file written by showtell, by the tutorial or by CS231n.

    Raises:
        CaptionFileError: if the file is missing, damaged or incomplete, or contains ids outside its vocabulary.
    """
    h5py = import_extra("h5py", "reading captions.h5", "train")
    path = Path(path)
    if not path.exists():
        raise CaptionFileError(f"{path}: no such file; create it with `showtell prepare`")
    try:
        with h5py.File(path) as file:
            if "vocabulary" in file.attrs:
                vocabulary = Vocabulary.from_json(file.attrs["vocabulary"])
            else:
                vocabulary = _read_vocabulary_json(vocabulary_path(path))
            splits = {name: _read_split(path, file, name) for name in SPLITS if f"{name}_captions" in file}
    except (OSError, KeyError, ValueError, TypeError, AttributeError, VocabularyError) as error:
        raise CaptionFileError(f"{path}: not a usable captions.h5: {error}") from None
    if "train" not in splits:
        raise CaptionFileError(f"{path}: 'train_captions' is missing; create the file with `showtell prepare`")
    for name, split in splits.items():
        if split.captions.size and not PAD <= split.captions.min() <= split.captions.max() < len(vocabulary):
            raise CaptionFileError(
                f"{path}: {name}_captions contains ids outside its vocabulary of {len(vocabulary)} {vocabulary.unit}"
            )
        rows = split.image_rows
        if rows.min(initial=0) < 0 or (split.images is not None and rows.max(initial=-1) >= len(split.images)):
            raise CaptionFileError(f"{path}: {name}_captions refers to image rows outside {name}_images")
    return CaptionData(vocabulary, splits)


def read_image_names(path: str | Path, split: str) -> tuple[str, ...]:
    """Return the image file names of a split in row order.

    Raises:
        CaptionFileError: if the file cannot be read, or does not contain image names.
    """
    captions = read_captions_h5(path).splits.get(split)
    if captions is None or captions.images is None:
        raise CaptionFileError(
            f"{path}: the file does not name the images of split {split!r}; create it with `showtell prepare`"
        )
    return captions.images


def _read_split(path: Path, file: Any, name: str) -> CaptionSplit:
    rows_name = f"{name}_image_idx" if f"{name}_image_idx" in file else f"{name}_image_idxs"
    captions, rows = memmap_dataset(path, file[f"{name}_captions"]), file[rows_name][:]
    if captions.ndim != 2 or rows.shape != (len(captions),):
        raise ValueError(f"the shapes of {name}_captions {captions.shape} and {rows_name} {rows.shape} do not match")
    images = _read_strings(file, f"{name}_images")
    texts = _read_strings(file, f"{name}_texts")
    if texts is not None and len(texts) != len(captions):
        raise ValueError(f"{name}_captions has {len(captions)} rows, but {name}_texts has {len(texts)}")
    return CaptionSplit(captions.astype(np.int32, copy=False), rows.astype(np.int32), images, texts)


def _read_strings(file: Any, name: str) -> tuple[str, ...] | None:
    return tuple(file[name].asstr()[:]) if name in file else None


def _read_vocabulary_json(path: Path) -> Vocabulary:
    try:
        words = json.loads(path.read_text(encoding="utf-8"))["idx_to_word"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CaptionFileError(f"{path}: cannot read the vocabulary: {error!r}") from None
    if isinstance(words, dict):  # JSON turns the integer keys of a Python dict into strings
        words = [words[key] for key in sorted(words, key=int)]
    special_tokens = tuple(str(word).lower() for word in words[:4])
    if special_tokens not in (SPECIAL_TOKENS, _CS231N_SPECIAL_TOKENS):
        raise CaptionFileError(f"{path}: ids 0 to 3 are {special_tokens}; expected {SPECIAL_TOKENS}")
    return Vocabulary.from_words(words[4:])
