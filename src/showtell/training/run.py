"""The folder of a training run.

settings.json           recipe, data paths, encoder, fingerprint of the vocabulary
vocabulary.json         tokens and their ids
checkpoints/            the latest checkpoints
best.keras              the best decoder, by CIDEr on the validation images
history.jsonl           one line per epoch
samples/                sample captions of random validation images, as text and as images
tensorboard/            events for TensorBoard
fine-tuning/            the second phase: checkpoints/ to tensorboard/ as above, and encoder.onnx, the encoder of
                        best.keras; after the phase also encoder-int8-*.onnx and its features
self-critical/          the third phase: checkpoints/ to tensorboard/ as above
start/                  of a run with --start-from: the initial weights of the decoder, and encoder.onnx unless the
                        encoder can be loaded by name
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from showtell.encoder import EncoderInfo
from showtell.errors import ConfigurationError
from showtell.inference.search_options import SearchOptions
from showtell.recipe import Recipe
from showtell.training.checkpoints import CheckpointStore
from showtell.utils.field_types import check_field_types
from showtell.utils.files import atomic_write, remove_abandoned_files, write_json
from showtell.vocabulary import Vocabulary

START_WEIGHTS = Path("start", "weights.npz")
START_ENCODER = Path("start", "encoder.onnx")
PHASES = ("cross-entropy", "fine-tuning", "self-critical")


@dataclass(frozen=True)
class DataPaths:
    """The paths of a run's data.

    Attributes:
        captions: captions.h5.
        features: the feature file, or one each for training and validation.
        images: the image folder, or one each for training and validation; empty if unknown.
        skip_missing: whether to skip captioned images without features.
        start_from: the run or bundle that the training started from; empty if none.
    """

    captions: str
    features: tuple[str, ...]
    images: tuple[str, ...] = ()
    skip_missing: bool = False
    start_from: str = ""

    @classmethod
    def resolve(
        cls, captions: Path, features: Sequence[Path], images: Sequence[Path], skip_missing: bool
    ) -> "DataPaths":
        """Return absolute paths, so that the run can be resumed from any working directory.

        Raises:
            ConfigurationError: if there are more than two feature files or image folders.
        """
        if len(features) > 2 or len(images) > 2:
            raise ConfigurationError(
                "pass --features and --images at most twice: once for training and once for validation"
            )
        feature_files, folders = (tuple(map(os.path.realpath, paths)) for paths in (features, images))
        return cls(os.path.realpath(captions), feature_files, folders, skip_missing)


@dataclass(frozen=True)
class Run:
    """A training run, or one of its later phases, on disk.

    Attributes:
        folder: the folder of the run or phase.
        recipe: all settings.
        data_paths: the paths of the data.
        encoder: the encoder of the features; None if unknown.
        vocabulary: the vocabulary of the captions.
    """

    folder: Path
    recipe: Recipe
    data_paths: DataPaths
    encoder: EncoderInfo | None
    vocabulary: Vocabulary

    @classmethod
    def create(
        cls, folder: Path, recipe: Recipe, data_paths: DataPaths, encoder: EncoderInfo | None, vocabulary: Vocabulary
    ) -> "Run":
        """Create a run in `folder`. Raises ConfigurationError if the folder has a run with checkpoints."""
        cls.require_no_run(folder)
        vocabulary.save(folder / "vocabulary.json")
        settings = {
            "recipe": recipe.to_dict(),
            "sources": asdict(data_paths),
            "encoder": encoder.to_dict() if encoder else None,
            "vocabulary": vocabulary.fingerprint,
        }
        write_json(folder / "settings.json", settings)
        return cls(folder, recipe, data_paths, encoder, vocabulary)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Open an existing run. Raises ConfigurationError if there is none, or if its files are damaged."""
        path = folder / "settings.json"
        if not path.exists():
            raise ConfigurationError(
                f"{folder}: not a training run: settings.json is missing. If it stopped before training started, run "
                "the same command again"
            )
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
            recipe = Recipe.from_dict(settings["recipe"], str(path))
            tuples = {name: tuple(settings["sources"][name]) for name in ("features", "images")}
            data_paths = DataPaths(**{**settings["sources"], **tuples})
            check_field_types(data_paths)
            encoder = EncoderInfo.from_dict(settings["encoder"]) if settings["encoder"] else None
            fingerprint = settings["vocabulary"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigurationError(f"{folder}: cannot open the training run: {error}") from None
        vocabulary = Vocabulary.load(folder / "vocabulary.json")
        if vocabulary.fingerprint != fingerprint:
            raise ConfigurationError(f"{folder / 'vocabulary.json'}: not the vocabulary of this run; restore the file")
        return cls(folder, recipe, data_paths, encoder, vocabulary)

    @staticmethod
    def require_no_run(folder: Path) -> None:
        """Raise ConfigurationError if `folder` has a run with checkpoints."""
        if CheckpointStore(folder).list_paths():
            raise ConfigurationError(
                f"{folder}: a run already exists; resume it with --resume, or choose another folder"
            )

    @property
    def checkpoints(self) -> CheckpointStore:
        """The checkpoints of this run or phase."""
        return CheckpointStore(self.folder)

    @property
    def best_path(self) -> Path:
        """The path of the best decoder."""
        return self.folder / "best.keras"

    def in_phase(self, name: str) -> "Run":
        """Return the run with the folder of a later phase as its folder."""
        return replace(self, folder=self.folder / name)

    def ending_with(self, phase: str) -> "Run":
        """Return the run as if `phase` were the last phase of its recipe.

        Args:
            phase: one of PHASES.

        Raises:
            ConfigurationError: if the phase is unknown, or the recipe does not have it.
        """
        if phase not in PHASES:
            raise ConfigurationError(f"unknown phase {phase!r}; available: {', '.join(PHASES)}")
        skipped = {
            "cross-entropy": ("fine_tuning_epochs", "self_critical_epochs"),
            "fine-tuning": ("self_critical_epochs",),
        }
        run = replace(self, recipe=self.recipe.override(dict.fromkeys(skipped.get(phase, ()), 0)))
        phases = {"cross-entropy": run, "fine-tuning": run.fine_tuning, "self-critical": run.self_critical}
        if phases[phase] is None:
            raise ConfigurationError(f"{self.folder}: the recipe of this run has no {phase} phase")
        return run

    @property
    def fine_tuning(self) -> "Run | None":
        """The second phase, if the recipe has it."""
        return self.in_phase("fine-tuning") if self.recipe.fine_tuning.fine_tuning_epochs else None

    @property
    def self_critical(self) -> "Run | None":
        """The third phase, if the recipe has it."""
        return self.in_phase("self-critical") if self.recipe.self_critical.self_critical_epochs else None

    @property
    def last_phase(self) -> "Run":
        """The last phase of the recipe."""
        return self.self_critical or self.fine_tuning or self

    @property
    def is_finished(self) -> bool:
        """Whether the last epoch of the last phase is complete."""
        recipe, history = self.recipe, self.last_phase.read_history()
        later = recipe.self_critical.self_critical_epochs or recipe.fine_tuning.fine_tuning_epochs
        return bool(history) and history[-1]["epoch"] == (later or recipe.training.epochs)

    @property
    def start_encoder(self) -> Path | None:
        """The ONNX file of the encoder, if the run started from a captioner whose encoder has no name."""
        path = self.folder / START_ENCODER
        return path if self.data_paths.start_from and path.exists() else None

    @property
    def search_options(self) -> SearchOptions:
        """The search options for validation, and the defaults of the bundle."""
        settings = self.recipe.training
        return SearchOptions(
            beam_size=settings.beam_size,
            max_length=self.recipe.data.max_length - 2,
            length_penalty=settings.length_penalty,
            no_repeat_ngram_size=settings.no_repeat_ngram_size,
        )

    def read_history(self) -> list[dict[str, Any]]:
        """Return the records of all finished epochs. Raises ConfigurationError if the file is damaged."""
        path = self.folder / "history.jsonl"
        try:
            records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError:
            return []
        except (ValueError, RecursionError):
            records = [None]
        if not all(map(_is_epoch, records)) or len({frozenset(record) for record in records}) > 1:
            raise ConfigurationError(f"{path}: the file is damaged; restore it, or start a new run in another folder")
        return records

    def write_history(self, records: Sequence[dict[str, Any]]) -> None:
        """Replace the records of the epochs."""
        with atomic_write(self.folder / "history.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in records))

    def remove_temporary_files(self) -> None:
        """Remove the files that a killed process did not finish writing."""
        for folder, _, _ in os.walk(self.folder):
            remove_abandoned_files(Path(folder))


def _is_epoch(record: Any) -> bool:
    """Return whether a value is a valid record of an epoch."""
    if not isinstance(record, dict) or not isinstance(record.get("epoch"), int):
        return False
    return isinstance(record.get("best"), bool) and all(
        value is None or isinstance(value, int | float) for value in record.values()
    )
