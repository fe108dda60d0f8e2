"""The folder of a training run: settings, checkpoints, history.

settings.json           recipe, where the data are, the encoder, the vocabulary's fingerprint
vocabulary.json
checkpoints/step-N.keras  the last two: weights, optimizer and random state
best.keras              the checkpoint with the highest validation CIDEr
history.jsonl           a line an epoch
samples/                captions of random validation images, as text and as pictures
tensorboard/
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras

from showtell.encoder import EncoderInfo
from showtell.errors import ConfigurationError
from showtell.files import write_json, written_whole
from showtell.recipe import Recipe
from showtell.search import SearchOptions
from showtell.train.decoders import ShowAndTell
from showtell.vocabulary import Vocabulary

KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class Sources:
    """Where a run's data are: captions.h5, one or two feature files (training, validation), and perhaps the images."""

    captions: str
    features: tuple[str, ...]
    images: str | None
    skip_missing: bool = False

    @classmethod
    def at(cls, captions: Path, features: Sequence[Path], images: Path | None, skip_missing: bool) -> "Sources":
        """Name them by absolute paths, so that the run can be resumed from any folder."""
        return cls(
            str(captions.resolve()),
            tuple(str(path.resolve()) for path in features),
            str(images.resolve()) if images else None,
            skip_missing,
        )


@dataclass(frozen=True)
class Run:
    """A run folder that exists, with what it was started with."""

    folder: Path
    recipe: Recipe
    sources: Sources
    encoder: EncoderInfo | None
    vocabulary: Vocabulary

    @classmethod
    def create(
        cls, folder: Path, recipe: Recipe, sources: Sources, encoder: EncoderInfo | None, vocabulary: Vocabulary
    ) -> "Run":
        """Begin a run in `folder`. Raises ConfigurationError if there is one already."""
        if (folder / "settings.json").exists():
            raise ConfigurationError(f"{folder}: a run is there already; go on with --resume, or name another folder")
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
            sources = Sources(**{**settings["sources"], "features": tuple(settings["sources"]["features"])})
            encoder = EncoderInfo.from_dict(settings["encoder"]) if settings["encoder"] else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{folder}: not a training run that can be opened: {error}") from None
        vocabulary = Vocabulary.load(folder / "vocabulary.json")
        if vocabulary.fingerprint != settings["vocabulary"]:
            raise ConfigurationError(f"{folder / 'vocabulary.json'}: not the vocabulary that the run began with")
        return cls(folder, recipe, sources, encoder, vocabulary)

    @property
    def best(self) -> Path:
        """The checkpoint with the highest validation CIDEr."""
        return self.folder / "best.keras"

    @property
    def search_options(self) -> SearchOptions:
        """How captions are sought in validation, and by the bundle."""
        settings = self.recipe.training
        return SearchOptions(
            beam_size=settings.beam_size,
            max_length=self.recipe.data.max_length - 2,
            length_penalty=settings.length_penalty,
        )

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints, the newest first."""
        return sorted((self.folder / "checkpoints").glob("step-*.keras"), reverse=True)

    def save(self, decoder: ShowAndTell, step: int) -> None:
        """Write a checkpoint beside the others, then remove all but the last two."""
        save_decoder(decoder, self.folder / "checkpoints" / f"step-{step:09d}.keras")
        for old in self.checkpoints()[KEPT_CHECKPOINTS:]:
            old.unlink()

    def newest(self) -> ShowAndTell | None:
        """Load the newest checkpoint that is whole; None if there is none."""
        for path in self.checkpoints():
            try:
                return load_decoder(path)
            except ConfigurationError:
                continue
        return None

    def history(self) -> list[dict[str, Any]]:
        """Return the record of each epoch that ended."""
        path = self.folder / "history.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def write_history(self, records: list[dict[str, Any]]) -> None:
        """Replace the record of epochs."""
        with written_whole(self.folder / "history.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in records))


def save_decoder(decoder: ShowAndTell, path: Path) -> None:
    """Write a decoder with its optimizer and random state, whole or not at all."""
    with written_whole(path) as temporary:
        decoder.save(temporary)


def load_decoder(path: Path) -> ShowAndTell:
    """Load what `save_decoder` wrote. Raises ConfigurationError if it cannot be loaded."""
    try:
        return keras.models.load_model(path)
    except Exception as error:  # zipfile, h5py and Keras each raise their own
        reason = " ".join(str(error).split())[:300]
        raise ConfigurationError(f"{path}: not a checkpoint that can be loaded: {reason}") from None
