"""The bundle: everything that captioning needs, in a folder or in one .zip file.

    bundle.json          the manifest: the attributes of `Bundle`, and size and checksum of every other file
    vocabulary.json      a Hugging Face tokenizer.json
    encoder.onnx         images -> features
    decoder_start.onnx   features -> the arrays of the decoder state that belong to the image
    decoder_step.onnx    token and state -> log-probabilities and next state
    MODEL_CARD.md        training data, scores, limitations
    document_frequencies.json   optional: document frequencies of n-grams, for CIDEr of small image sets
    calibration.json     optional: the calibration of the confidence

Sizes and checksums are checked before anything is executed. A bundle contains no pickle files, and its models read no
other files.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.encoder import EncoderInfo
from showtell.errors import BundleError, ConfigurationError, ShowtellError
from showtell.inference.bundle_files import FILES, MANIFEST, OPTIONAL_FILES, open_bundle_files, require_files
from showtell.inference.confidence import Calibration
from showtell.inference.model_check import check_model
from showtell.inference.search_options import SearchOptions
from showtell.utils.field_types import check_field_types
from showtell.utils.files import atomic_write
from showtell.vocabulary import Vocabulary

if TYPE_CHECKING:
    from showtell.metrics import DocumentFrequencies

FORMAT_VERSION = 3
DEFAULT_BUNDLE = Path(__file__).parent.parent / "pretrained" / "default"
# Limits of the manifest, so that `showtell info` stays readable.
MAX_TEXT_LENGTH = 1000
MAX_ENTRIES = 100
MAX_NUMBER = 1e12


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory.

    Attributes:
        encoder: identity of the encoder. A quantised encoder has the identity of the original encoder.
        decoder: kind and sizes of the decoder.
        precision: "float32" or "int8".
        search_options: default decoding options.
        files: file name -> content, for all of `FILES` and any of `OPTIONAL_FILES`.
        scores: data set -> metric -> value.
        has_attention: whether captions come with attention weights.
        data_license: terms of the training data in one line; empty if unknown.

    Raises:
        ConfigurationError: if a text, a table or a number of the manifest is too large.

    Examples:
        >>> Bundle.load("default").precision
        'int8'
    """

    encoder: EncoderInfo
    decoder: dict[str, Any]
    precision: str
    search_options: SearchOptions
    files: Mapping[str, bytes]
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    has_attention: bool = False
    data_license: str = ""

    def __post_init__(self) -> None:
        texts = [self.encoder.name, self.encoder.fingerprint, self.precision, self.data_license]
        for values in (self.decoder, self.scores, *self.scores.values()):
            _require(len(values) <= MAX_ENTRIES, f"more than {MAX_ENTRIES} entries")
            texts += values
        for value in self.decoder.values():
            _require(isinstance(value, str | int | float | bool | None), "a value of the decoder is not a scalar")
            texts += [value] if isinstance(value, str) else []
            _require(
                not isinstance(value, int | float) or abs(value) <= MAX_NUMBER,
                f"a number of the decoder exceeds {MAX_NUMBER:,.0f}",
            )
        for text in texts:
            _require(len(text) <= MAX_TEXT_LENGTH, f"a text is longer than {MAX_TEXT_LENGTH} characters")

    @property
    def calibration(self) -> Calibration | None:
        """The calibration of the confidence, if there is one. Raises BundleError if it does not match the encoder."""
        if "calibration.json" not in self.files:
            return None
        return Calibration.from_json(self._text("calibration.json"), self.encoder.channels)

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary. Raises ShowtellError if its file is invalid."""
        return Vocabulary.from_json(self._text("vocabulary.json"))

    @property
    def document_frequencies(self) -> "DocumentFrequencies | None":
        """Document frequencies of the validation references, if included. Raises ShowtellError if they are invalid."""
        from showtell.metrics import DocumentFrequencies  # captioning does not need the metrics

        content = self.files.get("document_frequencies.json")
        return None if content is None else DocumentFrequencies.from_json(content)

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that identify the bundle."""
        return hashlib.sha256(self._manifest()).hexdigest()[:12]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Bundle":
        """Read a bundle.

        Args:
            path: a folder or a .zip file; "default" is the bundle that ships with showtell.

        Raises:
            BundleError: if it is missing, damaged, incomplete or of another format version.
        """
        path = DEFAULT_BUNDLE if os.fspath(path) == "default" else Path(path)
        try:
            with open_bundle_files(path) as (sizes, read):
                manifest = json.loads(read(MANIFEST))
                _check_version(path, manifest["format_version"])
                checksums = manifest["files"]
                require_files(path, [name for name in OPTIONAL_FILES if name in checksums], sizes)
                names = [name for name in (*FILES, *OPTIONAL_FILES) if name in sizes]
                files = {name: _read_checked(path, name, sizes[name], checksums[name], read) for name in names}
            return check_field_types(
                cls(
                    EncoderInfo.from_dict(manifest["encoder"]),
                    dict(manifest["decoder"]),
                    str(manifest["precision"]),
                    _search_options(**manifest["search"]),
                    files,
                    {data: _scores(**scores) for data, scores in manifest["scores"].items()},
                    manifest["has_attention"],
                    manifest["data_license"],
                )
            )
        except BundleError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, ShowtellError) as error:
            raise BundleError(
                f"{path}: invalid {MANIFEST}: {repr(error)[:300]}; download or export the bundle again"
            ) from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the bundle, as a .zip file if the name ends in .zip, else as a folder.

        Raises:
            BundleError: if the path exists.
        """
        path = Path(path)
        if path.exists():
            raise BundleError(f"{path}: already exists; remove it, or choose another name")
        contents = {MANIFEST: self._manifest(), **self.files}
        with atomic_write(path) as temporary:
            if path.suffix != ".zip":
                temporary.mkdir()
                for name, content in contents.items():
                    (temporary / name).write_bytes(content)
                return
            with zipfile.ZipFile(temporary, "w") as archive:
                for name, content in contents.items():
                    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # a fixed date makes the archive reproducible
                    archive.writestr(entry, content, zipfile.ZIP_DEFLATED)

    def _text(self, name: str) -> str:
        try:
            return self.files[name].decode()
        except UnicodeDecodeError as error:
            raise BundleError(f"{name} of the bundle is not UTF-8 text (byte {error.start})") from None

    def _manifest(self) -> bytes:
        manifest = {
            "format_version": FORMAT_VERSION,
            "encoder": self.encoder.to_dict(),
            "decoder": self.decoder,
            "precision": self.precision,
            "search": asdict(self.search_options),
            "scores": self.scores,
            "has_attention": self.has_attention,
            "data_license": self.data_license,
            "files": {
                name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in self.files.items()
            },
        }
        return (json.dumps(manifest, indent=2) + "\n").encode()


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise ConfigurationError(f"invalid bundle: {problem}")


def _check_version(path: Path, version: Any) -> None:
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: bundle format {version}, but this version of showtell reads format {FORMAT_VERSION}; update "
            "showtell, or export the bundle again"
        )


def _search_options(suppress_tokens: Sequence[int], **others: Any) -> SearchOptions:
    return check_field_types(SearchOptions(suppress_tokens=tuple(map(index, suppress_tokens)), **others))


def _scores(**scores: Any) -> dict[str, float]:
    return {name: float(score) for name, score in scores.items()}


def _read_checked(path: Path, name: str, size: int, expected: Mapping[str, Any], read: Callable[[str], bytes]) -> bytes:
    """Read a file. Raises BundleError if its size or checksum differs, or if it is a model with unknown operators."""
    if size != expected["bytes"]:
        raise BundleError(f"{path}: {name} is damaged: its size differs; download or export the bundle again")
    content = read(name)
    if hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise BundleError(f"{path}: {name} is damaged: its checksum differs; download or export the bundle again")
    if name.endswith(".onnx"):
        try:
            check_model(content)
        except ValueError as error:
            raise BundleError(f"{path}: {name} is not allowed in a bundle: {error}; do not use this bundle") from None
    return content
