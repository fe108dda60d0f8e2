"""Training settings: frozen dataclasses that are read from a TOML recipe and overridden by command line options.

This module is not part of `training`, because the command line has an option for every setting and must not import
Keras when it starts.
"""

import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from showtell.errors import ConfigurationError
from showtell.utils.field_types import check_types

DECODERS = ("show_and_tell", "show_attend_tell")
PRECISIONS = ("float32", "mixed_bfloat16")
TOKENIZERS = ("word", "bpe", "char")
# Limits of `SearchOptions`. They are checked before training, because it searches only after the first epoch.
MAX_BEAM_SIZE, MAX_CAPTION_LENGTH, MAX_BEAM_TOKENS, MAX_LENGTH_PENALTY = 200, 1000, 20_000, 100
# Larger values are mistakes and need more memory than any machine has.
MAX_NUMBER = 1_000_000_000
MAX_VOCABULARY_SIZE = 200_000
MAX_LAYER_SIZE = 16_384
MAX_LAYERS = 100
MAX_SEED = 2**32 - 1


def _setting(default: Any, description: str) -> Any:
    return field(default=default, metadata={"help": description})


def _require_positive(config: Any, *names: str, maximum: int = MAX_NUMBER) -> None:
    for name in names:
        if not 0 < getattr(config, name) <= maximum:
            rule = f"must be greater than 0 and at most {maximum:,}"
            raise ConfigurationError(f"{name} is {getattr(config, name)}; it {rule}")


def _require_not_negative(config: Any, *names: str, maximum: int = MAX_NUMBER) -> None:
    for name in names:
        if not 0 <= getattr(config, name) <= maximum:
            raise ConfigurationError(f"{name} is {getattr(config, name)}; it must be 0 to {maximum:,}")


def _require_rate(config: Any, name: str) -> None:
    if not 0 <= getattr(config, name) < 1:
        raise ConfigurationError(f"{name} is {getattr(config, name)}; it must be at least 0 and below 1")


def _require_choice(config: Any, name: str, choices: tuple[str, ...]) -> None:
    if getattr(config, name) not in choices:
        raise ConfigurationError(f"unknown {name} {getattr(config, name)!r}; expected one of: {', '.join(choices)}")


@dataclass(frozen=True)
class DataConfig:
    """Captions and vocabulary."""

    tokenizer: str = _setting(
        "word", "Tokenizer: word, bpe or char. Use bpe or char for languages without spaces between words."
    )
    vocabulary_size: int = _setting(5000, "Maximum vocabulary size, excluding special tokens.")
    min_count: int = _setting(1, "Minimum number of occurrences for a word to enter the vocabulary.")
    max_length: int = _setting(25, "Maximum caption length in tokens, including <start> and <end>.")

    def __post_init__(self) -> None:
        _require_choice(self, "tokenizer", TOKENIZERS)
        _require_positive(self, "vocabulary_size", maximum=MAX_VOCABULARY_SIZE)
        _require_positive(self, "min_count")
        if not 3 <= self.max_length <= MAX_CAPTION_LENGTH + 2:
            raise ConfigurationError(
                f"max_length is {self.max_length}; it must be 3 to {MAX_CAPTION_LENGTH + 2:,}, including <start> and "
                "<end>"
            )


@dataclass(frozen=True)
class EncoderConfig:
    """Image encoder."""

    encoder: str = _setting("efficientnet_lite2", "Image encoder.")
    encoder_weights: str = _setting("imagenet", "Encoder weights: imagenet, none (random), or a weights file.")
    grid: bool = _setting(False, "Keep the feature grid instead of averaging over it.")


@dataclass(frozen=True)
class ModelConfig:
    """Caption decoder."""

    decoder: str = _setting("show_and_tell", "Decoder: show_and_tell, or show_attend_tell, which needs --grid.")
    embedding_size: int = _setting(512, "Word embedding size.")
    units: int = _setting(512, "Hidden size of the LSTM.")
    layers: int = _setting(1, "Number of LSTM layers.")
    dropout: float = _setting(0.3, "Dropout rate.")
    initializer_scale: float = _setting(
        0.0, "Half-width of the uniform distribution of initial weights; 0 for the default initialisation."
    )
    word_vectors: str = _setting("", "Text file of pretrained word vectors in GloVe format.")

    def __post_init__(self) -> None:
        _require_choice(self, "decoder", DECODERS)
        _require_positive(self, "embedding_size", "units", maximum=MAX_LAYER_SIZE)
        _require_positive(self, "layers", maximum=MAX_LAYERS)
        _require_not_negative(self, "initializer_scale")
        _require_rate(self, "dropout")


@dataclass(frozen=True)
class TrainingConfig:
    """Training of the decoder."""

    epochs: int = _setting(10, "Number of epochs.")
    batch_size: int = _setting(64, "Batch size in captions.")
    optimizer: str = _setting("adam", "Name of a Keras optimizer.")
    learning_rate: float = _setting(0.0005, "Initial learning rate.")
    decay_factor: float = _setting(1.0, "Factor of the exponential learning rate decay; 1 for a constant rate.")
    decay_epochs: float = _setting(1.0, "Number of epochs per application of the decay factor.")
    decay_staircase: bool = _setting(True, "Decay the learning rate in steps instead of continuously.")
    clip_norm: float = _setting(5.0, "Maximum global norm of the gradients.")
    label_smoothing: float = _setting(0.0, "Label smoothing.")
    scheduled_sampling: float = _setting(
        0.0, "Final rate of scheduled sampling: share of input words sampled from the model; rises linearly from 0."
    )
    precision: str = _setting(
        "float32", "Numeric precision: float32, or mixed_bfloat16 for processors that support it."
    )
    checkpoint_every: int = _setting(500, "Number of steps between checkpoints.")
    sample_every: int = _setting(1000, "Number of steps between sample captions of 32 random validation images.")
    validation_images: int = _setting(1000, "Number of validation images to caption after each epoch.")
    beam_size: int = _setting(3, "Beam width for validation; also the default of the bundle.")
    length_penalty: float = _setting(
        0.7,
        "Length penalty for validation: alpha in log-probability / length ** alpha; 0 for none. Also the default of "
        "the bundle.",
    )
    no_repeat_ngram_size: int = _setting(
        0, "Size of n-grams that may not repeat in a caption; 0 for no limit. Also the default of the bundle."
    )
    seed: int = _setting(0, "Random seed.")

    def __post_init__(self) -> None:
        _require_positive(self, "epochs", "batch_size", "learning_rate", "decay_factor", "decay_epochs", "clip_norm")
        _require_positive(self, "checkpoint_every", "sample_every", "validation_images")
        _require_positive(self, "beam_size", maximum=MAX_BEAM_SIZE)
        _require_rate(self, "label_smoothing")
        _require_rate(self, "scheduled_sampling")
        _require_not_negative(self, "seed", maximum=MAX_SEED)
        _require_not_negative(self, "length_penalty", maximum=MAX_LENGTH_PENALTY)
        _require_not_negative(self, "no_repeat_ngram_size", maximum=MAX_CAPTION_LENGTH)
        _require_choice(self, "precision", PRECISIONS)


@dataclass(frozen=True)
class FineTuningConfig:
    """Second phase: fine-tuning of encoder and decoder."""

    fine_tuning_epochs: int = _setting(0, "Number of epochs; 0 to skip this phase.")
    fine_tuning_learning_rate: float = _setting(0.0002, "Initial learning rate of the decoder.")
    encoder_learning_rate: float = _setting(0.0001, "Initial learning rate of the encoder.")
    fine_tuned_layers: int = _setting(42, "Number of encoder layers to train, counted from the output.")
    fine_tuning_images: int = _setting(16, "Batch size in images, each with all its captions.")
    mirror: bool = _setting(True, "Mirror images at random; turn it off if captions mention left and right.")

    def __post_init__(self) -> None:
        _require_not_negative(self, "fine_tuning_epochs")
        _require_positive(self, "fine_tuning_learning_rate", "encoder_learning_rate")
        _require_positive(self, "fine_tuned_layers", "fine_tuning_images")


@dataclass(frozen=True)
class SelfCriticalConfig:
    """Third phase: self-critical training with CIDEr-D as reward."""

    self_critical_epochs: int = _setting(0, "Number of epochs; 0 to skip this phase.")
    self_critical_learning_rate: float = _setting(0.00001, "Learning rate.")
    self_critical_images: int = _setting(64, "Batch size in images.")
    samples_per_image: int = _setting(5, "Number of sampled captions per image, at least 2.")

    def __post_init__(self) -> None:
        _require_not_negative(self, "self_critical_epochs")
        _require_positive(self, "self_critical_learning_rate", "self_critical_images")
        if self.samples_per_image < 2:
            raise ConfigurationError(
                f"samples_per_image is {self.samples_per_image}; it must be at least 2, because the other samples of "
                "an image are the baseline"
            )


@dataclass(frozen=True)
class Recipe:
    """All settings of a training run.

    Examples:
        >>> recipe = Recipe().override({"epochs": 3, "units": 256})
        >>> recipe.training.epochs, recipe.model.units
        (3, 256)
    """

    data: DataConfig = DataConfig()
    encoder: EncoderConfig = EncoderConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    fine_tuning: FineTuningConfig = FineTuningConfig()
    self_critical: SelfCriticalConfig = SelfCriticalConfig()

    def __post_init__(self) -> None:
        tokenizer, beam_size, length = self.data.tokenizer, self.training.beam_size, self.data.max_length - 2
        if beam_size * length > MAX_BEAM_TOKENS:
            raise ConfigurationError(
                f"beam_size x (max_length - 2) is {beam_size * length:,}; it must be at most {MAX_BEAM_TOKENS:,}"
            )
        if tokenizer != "word" and self.model.word_vectors:
            raise ConfigurationError(f"word_vectors need the tokenizer word, but the tokenizer is {tokenizer}")
        if tokenizer == "char" and self.training.no_repeat_ngram_size:
            raise ConfigurationError(
                f"no_repeat_ngram_size is {self.training.no_repeat_ngram_size}, but the tokenizer is char, and good "
                "captions repeat characters; pass --no-repeat-ngram-size 0"
            )

    @classmethod
    def from_dict(cls, value: dict[str, Any], source: str) -> "Recipe":
        """Read sections of settings, as parsed from TOML or JSON.

        Args:
            value: section name -> setting name -> value. Missing sections and settings get their defaults.
            source: where the settings come from, for error messages.

        Raises:
            ConfigurationError: if a section, a setting or a value is invalid.
        """
        sections = {section.name: type(section.default) for section in fields(cls)}
        if unknown := set(value) - set(sections):
            expected = ", ".join(f"[{name}]" for name in sections)
            raise ConfigurationError(f"{source}: unknown section [{min(unknown)}]; expected one of: {expected}")
        return cls(**{name: _read_section(name, sections[name], value[name], source) for name in value})

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Read a TOML recipe. Raises ConfigurationError if the file is missing or invalid."""
        try:
            return cls.from_dict(tomllib.loads(Path(path).read_text(encoding="utf-8")), str(path))
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot read the recipe: {error.strerror}") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(f"{path}: cannot read the recipe: {error}") from None

    def override(self, settings: dict[str, Any]) -> "Recipe":
        """Return a copy with some settings replaced. Names are unique across sections.

        Raises:
            ConfigurationError: if a setting is unknown, of another type, or out of range.

        Examples:
            >>> Recipe().override({"epochs": 5}).training.epochs
            5
        """
        sections = {section.name: getattr(self, section.name) for section in fields(self)}
        names = {setting.name for section in sections.values() for setting in fields(section)}
        if unknown := sorted(set(settings) - names):
            raise ConfigurationError(f"unknown setting {unknown[0]!r}; see docs/recipes.md for the settings")
        try:
            for section in sections.values():
                check_types(type(section), settings)
        except TypeError as error:
            raise ConfigurationError(f"invalid setting: {error}") from None
        changed = {
            name: replace(section, **{key: value for key, value in settings.items() if hasattr(section, key)})
            for name, section in sections.items()
        }
        return Recipe(**changed)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-serialisable values for `from_dict`."""
        return asdict(self)


def _read_section(name: str, kind: Any, settings: Any, source: str) -> Any:
    if not isinstance(settings, dict):
        raise ConfigurationError(f"{source}: {name} is {settings!r}; expected a section [{name}] of settings")
    types: dict[str, Any] = {setting.name: setting.type for setting in fields(kind)}
    for unknown in settings.keys() - types.keys():
        raise ConfigurationError(
            f"{source}: unknown setting {unknown!r} in [{name}]; expected one of: {', '.join(types)}"
        )
    try:
        check_types(kind, settings)
        # Converts whole numbers to float where the type is float.
        return kind(**{setting: types[setting](value) for setting, value in settings.items()})
    except (TypeError, OverflowError) as error:
        raise ConfigurationError(f"{source}: {error}") from None
