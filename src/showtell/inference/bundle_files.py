"""The files of a bundle: their names, and reading them from a folder or a .zip file with size checks.

No more memory is used than the checked sizes: a file is read up to its size and one byte, whatever it unpacks to.
"""

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from showtell.errors import BundleError
from showtell.utils.text import one_line

MANIFEST = "bundle.json"
FILES = ("vocabulary.json", "encoder.onnx", "decoder_start.onnx", "decoder_step.onnx", "MODEL_CARD.md")
OPTIONAL_FILES = ("document_frequencies.json", "calibration.json")
MAX_BYTES = 2_000_000_000
# Parsing JSON takes up to 20 times the memory of the text.
MAX_TEXT_BYTES = 10_000_000
MAX_MANIFEST_BYTES = 1_000_000
# A list of ten files takes 1 kB. Each entry of a longer list would take memory before it is refused.
MAX_ARCHIVE_LIST_BYTES = 100_000
# Weights hardly compress; a zip bomb compresses a thousandfold.
MAX_COMPRESSION_RATIO = 50

# The size of each file by its name, and a function that reads one.
OpenedFiles = tuple[dict[str, int], Callable[[str], bytes]]


@contextmanager
def open_bundle_files(path: Path) -> Iterator[OpenedFiles]:
    """Open a bundle for reading. Raises BundleError if it lacks a file, has an unknown one, or is too large."""
    if path.is_file():
        with _open_zip(path) as opened:
            yield opened
        return
    if not path.is_dir():
        raise BundleError(f"{path}: no such bundle; pass a folder or .zip file made by `showtell export`, or `default`")
    names = [name for name in (MANIFEST, *FILES, *OPTIONAL_FILES) if (path / name).is_file()]
    sizes = {name: (path / name).stat().st_size for name in names}
    if MANIFEST not in names and (path / "settings.json").exists():
        raise BundleError(f"{path}: training run, not a bundle; turn it into a bundle with: showtell export")
    _check_sizes(path, sizes)

    def read(name: str) -> bytes:
        with open(path / name, "rb") as file:
            return file.read(sizes[name] + 1)

    yield sizes, read


@contextmanager
def _open_zip(path: Path) -> Iterator[OpenedFiles]:
    def unreadable(error: Exception) -> BundleError:
        return BundleError(f"{path}: not a readable .zip file: {one_line(error)}; download or export the bundle again")

    with ExitStack() as stack:
        try:
            file = stack.enter_context(_ArchiveFile(path))
            archive = stack.enter_context(zipfile.ZipFile(file))
        except Exception as error:  # zipfile, zlib and struct raise their own exceptions on damaged archives
            raise unreadable(error) from None
        file.max_read = MAX_BYTES
        _check_entries(path, archive.infolist())
        entries = _without_folder([entry for entry in archive.infolist() if not entry.filename.endswith("/")])
        sizes = {name: entry.file_size for name, entry in entries.items()}
        _check_sizes(path, sizes)
        if sum(sizes.values()) > MAX_COMPRESSION_RATIO * path.stat().st_size:
            raise BundleError(
                f"{path}: refusing to unpack: compression ratio exceeds {MAX_COMPRESSION_RATIO}:1 (possible zip bomb)"
            )

        def read(name: str) -> bytes:
            try:
                with archive.open(entries[name]) as entry:
                    return entry.read(sizes[name] + 1)
            except Exception as error:
                raise unreadable(error) from None

        yield sizes, read


class _ArchiveFile(io.FileIO):
    """A file that refuses to read more than `max_read` bytes at once.

    `zipfile` reads the list of the archive's files at once, and makes an object of 500 bytes of each entry.
    """

    max_read = MAX_ARCHIVE_LIST_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.max_read:
            raise ValueError(f"the list of its files is longer than {self.max_read:,} bytes")
        return super().read(size) or b""


def _check_entries(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """Raise BundleError for entries that may unpack to any size, that need a password, or that occur twice."""
    if len({entry.filename for entry in entries}) < len(entries):
        raise BundleError(f"{path}: the archive contains duplicate file names; download or export the bundle again")
    for entry in entries:
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BundleError(f"{path}: {entry.filename!r} has an unsupported compression; use stored or deflated")
        if entry.flag_bits & 1:
            raise BundleError(f"{path}: {entry.filename!r} is encrypted; pass a .zip file without a password")


def _without_folder(entries: Sequence[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return entries by name. If a whole folder was zipped, strip the folder, and skip what macOS adds to it."""
    names = {entry.filename: entry for entry in entries if not entry.filename.startswith("__MACOSX/")}
    folders = {name.rpartition("/")[0] for name in names}
    folder = min(folders, default="")
    if len(folders) > 1 or "/" in folder or folder in ("", ".."):
        return names
    return {name.removeprefix(f"{folder}/"): entry for name, entry in names.items() if name != f"{folder}/.DS_Store"}


def _check_sizes(path: Path, sizes: Mapping[str, int]) -> None:
    if unknown := set(sizes) - {MANIFEST, *FILES, *OPTIONAL_FILES}:
        raise BundleError(f"{path}: not a bundle: unexpected file {min(unknown)!r}")
    if MANIFEST not in sizes:
        raise BundleError(f"{path}: not a bundle: {MANIFEST} is missing; pass the output of `showtell export`")
    require_files(path, FILES, sizes)
    if sum(sizes.values()) > MAX_BYTES:
        raise BundleError(f"{path}: bundle too large: {sum(sizes.values()):,} bytes exceed {MAX_BYTES:,}")
    for name, size in sizes.items():
        if size > (limit := _max_bytes(name)):
            raise BundleError(f"{path}: {name} is too large: {size:,} bytes exceed {limit:,}")


def _max_bytes(name: str) -> int:
    if name == MANIFEST:
        return MAX_MANIFEST_BYTES
    return MAX_BYTES if name.endswith(".onnx") else MAX_TEXT_BYTES


def require_files(path: Path, names: Sequence[str], sizes: Mapping[str, int]) -> None:
    """Raise BundleError if one of the files is missing."""
    if missing := [name for name in names if name not in sizes]:
        raise BundleError(f"{path}: incomplete bundle: {', '.join(missing)} missing; download or export it again")
