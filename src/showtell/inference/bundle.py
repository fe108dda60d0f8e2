"""The bundle: all that captioning needs, in a folder or in one .zip file.

    bundle.json          what follows in `Bundle`, and size and checksum of every other file
    vocabulary.json      a Hugging Face tokenizer.json
    encoder.onnx         images -> features
    decoder_start.onnx   features -> what of the state belongs to the image
    decoder_step.onnx    word and state -> log-probabilities and next state
    MODEL_CARD.md        what it was trained on, how well it does, what it is bad at
    document_frequencies.json   optional: in how many images' references n-grams occur, for CIDEr of a few images
    calibration.json     optional: what makes a confidence of log-probability and image

Sizes and checksums are checked before anything is executed. There is no pickle in it, and no model reads other files.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from operator import index
from pathlib import Path
from typing import Any

from showtell.encoder import EncoderInfo
from showtell.errors import BundleError, ShowtellError
from showtell.inference.confidence import Calibration
from showtell.inference.search import SearchOptions
from showtell.metrics.cider import DocumentFrequencies
from showtell.utils.field_types import check_field_types
from showtell.utils.files import atomic_write
from showtell.vocabulary import Vocabulary

FORMAT_VERSION = 3
MANIFEST = "bundle.json"
FILES = ("vocabulary.json", "encoder.onnx", "decoder_start.onnx", "decoder_step.onnx", "MODEL_CARD.md")
OPTIONAL_FILES = ("document_frequencies.json", "calibration.json")
MAX_BYTES = 2_000_000_000
# Of a .zip file; weights hardly shrink, and a bomb shrinks a thousandfold.
MAX_SHRINKAGE = 50
# The key under which ONNX names a file of weights outside of the model; no model that showtell exports has it.
_EXTERNAL = b"location"


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory.

    Attributes:
        encoder: what its encoder is; of a quantised one, the encoder that it was made from.
        decoder: the decoder's kind and shape.
        precision: "float32" or "int8".
        search_options: how captions are sought unless one asks otherwise.
        scores: metrics, by the data that they were measured on.
        has_attention: whether captions come with attention weights.
        data_license: the terms of the training data, as one line; empty if unknown.
        files: the contents of `FILES`, and of those `OPTIONAL_FILES` that it has.
    """

    encoder: EncoderInfo
    decoder: dict[str, Any]
    precision: str
    search_options: SearchOptions
    files: Mapping[str, bytes]
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    has_attention: bool = False
    data_license: str = ""

    @property
    def calibration(self) -> Calibration | None:
        """What makes a confidence of its captions, if it was calibrated. Raises BundleError if it does not fit."""
        if "calibration.json" not in self.files:
            return None
        return Calibration.from_json(self._text("calibration.json"), self.encoder.channels)

    @property
    def vocabulary(self) -> Vocabulary:
        """The words that it can say. Raises ShowtellError if they are none."""
        return Vocabulary.from_json(self._text("vocabulary.json"))

    def _text(self, name: str) -> str:
        try:
            return self.files[name].decode()
        except UnicodeDecodeError as error:
            raise BundleError(f"{name} of the bundle is not UTF-8 text (byte {error.start})") from None

    @property
    def document_frequencies(self) -> DocumentFrequencies | None:
        """Those of the references that it was validated on, if it has them. Raises ShowtellError if they are none."""
        content = self.files.get("document_frequencies.json")
        return None if content is None else DocumentFrequencies.from_json(content)

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that tell it from other bundles."""
        return hashlib.sha256(self._manifest()).hexdigest()[:12]

    @classmethod
    def load(cls, path: str | Path) -> "Bundle":
        """Read a bundle, folder or .zip. Raises BundleError if it is damaged, incomplete or from another showtell."""
        path = Path(path)
        try:
            with _opened(path) as (sizes, read):
                manifest = json.loads(read(MANIFEST))
                version = manifest["format_version"]
                if version != FORMAT_VERSION:
                    raise BundleError(
                        f"{path}: bundle format {version}, but this showtell reads {FORMAT_VERSION}; "
                        "update showtell, or export the bundle anew"
                    )
                listed = manifest["files"]
                if missing := [name for name in OPTIONAL_FILES if name in listed and name not in sizes]:
                    raise BundleError(f"{path}: not a whole bundle, without {', '.join(missing)}; get it again")
                present = [name for name in (*FILES, *OPTIONAL_FILES) if name in sizes]
                contents = {name: _checked(path, name, sizes[name], listed[name], read) for name in present}
            bundle = cls(
                EncoderInfo.from_dict(manifest["encoder"]),
                dict(manifest["decoder"]),
                str(manifest["precision"]),
                _search_options(**manifest["search"]),
                contents,
                {data: _numbers(**scores) for data, scores in manifest["scores"].items()},
                manifest["has_attention"],
                manifest["data_license"],
            )
            return check_field_types(bundle)
        except BundleError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, ShowtellError) as error:
            raise BundleError(f"{path}: {MANIFEST} cannot be understood ({error!r}); get the bundle again") from None

    def save(self, path: str | Path) -> None:
        """Write the bundle, as one file if the name ends in .zip, else as a folder. Raises BundleError if it exists."""
        path = Path(path)
        if path.exists():
            raise BundleError(f"{path}: exists already; remove it first, or give another name")
        if path.suffix == ".zip":
            with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in ((MANIFEST, self._manifest()), *self.files.items()):
                    # A fixed date: the same bundle is the same bytes.
                    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(entry, content)
            return
        with atomic_write(path) as temporary:
            temporary.mkdir()
            for name, content in ((MANIFEST, self._manifest()), *self.files.items()):
                (temporary / name).write_bytes(content)

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


def _search_options(suppress_tokens: Sequence[int], **others: Any) -> SearchOptions:
    return check_field_types(SearchOptions(suppress_tokens=tuple(map(index, suppress_tokens)), **others))


def _numbers(**scores: Any) -> dict[str, float]:
    return {name: float(score) for name, score in scores.items()}


@contextmanager
def _opened(path: Path) -> Iterator[tuple[dict[str, int], Callable[[str], bytes]]]:
    """Yield the sizes of the files of a bundle, by their names, and what reads one of them."""
    if path.is_file():
        with _opened_zip(path) as opened:
            yield opened
        return
    if not path.is_dir():
        raise BundleError(f"{path}: no such bundle; name a folder or a .zip file made by showtell export")
    names = [name for name in (MANIFEST, *FILES, *OPTIONAL_FILES) if (path / name).is_file()]
    sizes = {name: (path / name).stat().st_size for name in names}
    if MANIFEST not in names and (path / "settings.json").exists():
        raise BundleError(f"{path}: a training run, no bundle; make one of it with: showtell export")
    _check_sizes(path, sizes)
    yield sizes, lambda name: (path / name).read_bytes()


@contextmanager
def _opened_zip(path: Path) -> Iterator[tuple[dict[str, int], Callable[[str], bytes]]]:
    def failed(error: Exception) -> BundleError:
        return BundleError(f"{path}: not a .zip file that can be read ({error})")

    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # zipfile, zlib and struct each raise their own on damaged archives
        raise failed(error) from None
    with archive:
        entries = _without_folder([entry for entry in archive.infolist() if not entry.filename.endswith("/")])
        sizes = {name: entry.file_size for name, entry in entries.items()}
        _check_sizes(path, sizes)
        if sum(sizes.values()) > MAX_SHRINKAGE * path.stat().st_size:
            raise BundleError(f"{path}: it unpacks to {MAX_SHRINKAGE} times its size and more, as no bundle does")

        def read(name: str) -> bytes:
            try:
                return archive.read(entries[name])
            except Exception as error:
                raise failed(error) from None

        yield sizes, read


def _without_folder(entries: Sequence[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return entries by their names; where a folder was packed as a whole, by those within it, less what macOS adds."""
    names = {entry.filename: entry for entry in entries if not entry.filename.startswith("__MACOSX/")}
    folders = {name.rpartition("/")[0] for name in names}
    folder = min(folders, default="")
    if len(folders) > 1 or "/" in folder or folder in ("", ".."):
        return names
    return {name.removeprefix(f"{folder}/"): entry for name, entry in names.items() if name != f"{folder}/.DS_Store"}


def _check_sizes(path: Path, sizes: Mapping[str, int]) -> None:
    if unknown := set(sizes) - {MANIFEST, *FILES, *OPTIONAL_FILES}:
        raise BundleError(f"{path}: a bundle does not hold {min(unknown)!r}; it was not made by showtell export")
    if MANIFEST not in sizes:
        raise BundleError(f"{path}: no bundle, for {MANIFEST} is missing; name what showtell export has made")
    if missing := [name for name in FILES if name not in sizes]:
        raise BundleError(f"{path}: not a whole bundle, without {', '.join(missing)}; get it again")
    if sum(sizes.values()) > MAX_BYTES:
        raise BundleError(f"{path}: {sum(sizes.values()):,} bytes are more than the limit of {MAX_BYTES:,}")


def _checked(path: Path, name: str, size: int, expected: Mapping[str, Any], read: Callable[[str], bytes]) -> bytes:
    """Read a file of a bundle. Raises BundleError if it is not what the manifest says, or would read other files."""
    if size != expected["bytes"]:
        raise BundleError(f"{path}: {name} is damaged (its size differs); get the bundle again")
    content = read(name)
    if hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise BundleError(f"{path}: {name} is damaged (its checksum differs); get the bundle again")
    if name.endswith(".onnx") and _EXTERNAL in content:
        raise BundleError(f"{path}: {name} keeps weights in another file, as no bundle does; do not trust it")
    return content
