"""The folder of a training run: settings, checkpoints, history.

settings.json           recipe, where the data are, the encoder, the vocabulary's fingerprint
vocabulary.json
checkpoints/step-N.keras  the last two: weights, optimizer and random state
best.keras              the best decoder, by validation CIDEr
history.jsonl           a line an epoch
samples/                captions of random validation images, as text and as pictures
tensorboard/
fine-tuning/            the second phase: from checkpoints/ on the same again, and encoder.onnx, which belongs to
                        best.keras; when it is over, encoder-int8-*.onnx and the features that this one makes
self-critical/          the last phase: from checkpoints/ on the same again
start/                  if the run was started from another: the weights of its decoder, and encoder.onnx, its encoder,
                        unless that is one of the table
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras

from showtell.encoder import EncoderInfo
from showtell.errors import ConfigurationError
from showtell.inference.search import SearchOptions
from showtell.recipe import Recipe
from showtell.utils.files import atomic_write, remove, write_json
from showtell.vocabulary import Vocabulary

KEPT_CHECKPOINTS = 2
START_WEIGHTS = Path("start", "weights.npz")
START_ENCODER = Path("start", "encoder.onnx")


@dataclass(frozen=True)
class DataPaths:
    """Where a run's data are.

    Attributes:
        captions: captions.h5.
        features: a feature file, or two: training, validation.
        images: the folder of the images, or two likewise; none if they are not at hand.
        skip_missing: whether captioned images without features are left out.
        start_from: the run or bundle that training started from, if any.
    """

    captions: str
    features: tuple[str, ...]
    images: tuple[str, ...] = ()
    skip_missing: bool = False
    start_from: str = ""

    @classmethod
    def at(cls, captions: Path, features: Sequence[Path], images: Sequence[Path], skip_missing: bool) -> "DataPaths":
        """Name them by absolute paths, so that the run can be resumed from any folder.

        Raises ConfigurationError if there are more than two feature files or image folders.
        """
        if len(features) > 2 or len(images) > 2:
            raise ConfigurationError("--features and --images are for training, and a second time for validation")
        feature_files, folders = (tuple(str(path.resolve()) for path in paths) for paths in (features, images))
        return cls(str(captions.resolve()), feature_files, folders, skip_missing)


@dataclass(frozen=True)
class Run:
    """A run folder that exists, with what it was started with."""

    folder: Path
    recipe: Recipe
    sources: DataPaths
    encoder: EncoderInfo | None
    vocabulary: Vocabulary

    @classmethod
    def create(
        cls, folder: Path, recipe: Recipe, sources: DataPaths, encoder: EncoderInfo | None, vocabulary: Vocabulary
    ) -> "Run":
        """Begin a run in `folder`. Raises ConfigurationError if one is under way there."""
        cls.require_free(folder)
        vocabulary.save(folder / "vocabulary.json")
        write_json(
            folder / "settings.json",
            {
                "recipe": recipe.to_dict(),
                "sources": asdict(sources),
                "encoder": encoder.to_dict() if encoder else None,
                "vocabulary": vocabulary.fingerprint,
            },
        )
        return cls(folder, recipe, sources, encoder, vocabulary)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Open a run that was begun. Raises ConfigurationError if there is none."""
        path = folder / "settings.json"
        if not path.exists():
            raise ConfigurationError(
                f"{folder}: not a training run; if it stopped before training began, give its command again"
            )
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
            recipe = Recipe.from_dict(settings["recipe"], str(path))
            places = {name: tuple(settings["sources"][name]) for name in ("features", "images")}
            sources = DataPaths(**{**settings["sources"], **places})
            encoder = EncoderInfo.from_dict(settings["encoder"]) if settings["encoder"] else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{folder}: not a training run that can be opened: {error}") from None
        vocabulary = Vocabulary.load(folder / "vocabulary.json")
        if vocabulary.fingerprint != settings["vocabulary"]:
            raise ConfigurationError(f"{folder / 'vocabulary.json'}: not the vocabulary that the run began with")
        return cls(folder, recipe, sources, encoder, vocabulary)

    @staticmethod
    def require_free(folder: Path) -> None:
        """Raise ConfigurationError if `folder` has a run that has made a checkpoint."""
        if any((folder / "checkpoints").glob("step-*.keras")):
            raise ConfigurationError(f"{folder}: a run is there already; go on with --resume, or name another folder")

    @property
    def best(self) -> Path:
        """The best decoder, by validation CIDEr."""
        return self.folder / "best.keras"

    def in_phase(self, name: str) -> "Run":
        """Return the run with the folder of a later phase in the place of its own."""
        return replace(self, folder=self.folder / name)

    def until(self, phase: str) -> "Run":
        """Return the run as if its recipe ended with a phase: "cross-entropy", "fine-tuning" or "self-critical".

        Raises ConfigurationError if the recipe has no such phase.
        """
        later = {
            "cross-entropy": ("fine_tuning_epochs", "self_critical_epochs"),
            "fine-tuning": ("self_critical_epochs",),
        }
        run = replace(self, recipe=self.recipe.override(dict.fromkeys(later.get(phase, ()), 0)))
        there = {"cross-entropy": run, "fine-tuning": run.fine_tuning, "self-critical": run.self_critical}
        if there[phase] is None:
            raise ConfigurationError(f"{self.folder}: its recipe has no phase {phase}")
        return run

    @property
    def fine_tuning(self) -> "Run | None":
        """The second phase, if the recipe has it."""
        return self.in_phase("fine-tuning") if self.recipe.fine_tuning.fine_tuning_epochs else None

    @property
    def self_critical(self) -> "Run | None":
        """The last phase, if the recipe has it."""
        return self.in_phase("self-critical") if self.recipe.self_critical.self_critical_epochs else None

    @property
    def final(self) -> "Run":
        """The last phase that the recipe has."""
        return self.self_critical or self.fine_tuning or self

    @property
    def is_finished(self) -> bool:
        """Whether the last epoch of the last phase has ended."""
        recipe, history = self.recipe, self.final.history()
        later = recipe.self_critical.self_critical_epochs or recipe.fine_tuning.fine_tuning_epochs
        return bool(history) and history[-1]["epoch"] == (later or recipe.training.epochs)

    @property
    def start_encoder(self) -> Path | None:
        """The ONNX file of the encoder, if the run was started from one that is not of the table."""
        path = self.folder / START_ENCODER
        return path if self.sources.start_from and path.exists() else None

    @property
    def search_options(self) -> SearchOptions:
        """How captions are sought in validation, and by the bundle."""
        settings = self.recipe.training
        return SearchOptions(
            beam_size=settings.beam_size,
            max_length=self.recipe.data.max_length - 2,
            length_penalty=settings.length_penalty,
            no_repeat_ngram_size=settings.no_repeat_ngram_size,
        )

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints, the newest first."""
        return sorted((self.folder / "checkpoints").glob("step-*.keras"), reverse=True)

    def save(self, model: keras.Model, step: int) -> None:
        """Write a checkpoint beside the others, then remove all but the last two."""
        save_model(model, self.folder / "checkpoints" / f"step-{step:09d}.keras")
        for old in self.checkpoints()[KEPT_CHECKPOINTS:]:
            old.unlink()

    def load_latest_checkpoint(self, say: Callable[[str], None]) -> Any:
        """Load the newest checkpoint that is whole, and tell of newer ones; None if there is none at all.

        Raises ConfigurationError if there are some, but none can be loaded.
        """
        for stale in self.folder.rglob(".*.[0-9]*.tmp*"):
            remove(stale)  # what a killed process was writing
        problems = []
        for path in self.checkpoints():
            try:
                model = load_model(path)
            except ConfigurationError as error:
                problems.append(error)
                continue
            for problem in problems:
                say(f"note: {problem}; the one before is taken")
            return model
        if problems:
            raise problems[0]
        return None

    def history(self) -> list[dict[str, Any]]:
        """Return the record of each epoch that ended."""
        path = self.folder / "history.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def write_history(self, records: list[dict[str, Any]]) -> None:
        """Replace the record of epochs."""
        with atomic_write(self.folder / "history.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in records))


def save_model(model: keras.Model, path: Path) -> None:
    """Write a model with its optimizer and random state, whole or not at all."""
    with atomic_write(path) as temporary:
        model.save(temporary)


def load_model(path: Path) -> Any:
    """Load what `save_model` wrote. Raises ConfigurationError if it cannot be loaded."""
    try:
        return keras.models.load_model(path)
    except Exception as error:  # zipfile, h5py and Keras each raise their own
        reason = " ".join(str(error).split())[:300]
        raise ConfigurationError(f"{path}: not a checkpoint that can be loaded: {reason}") from None
