"""The settings of a training run: frozen dataclasses, read from a TOML recipe, overridden by flags.

They live outside of `train` because the command line has an option for each, and must start without Keras.
"""

import math
import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from showtell.errors import ConfigurationError

DECODERS = ("show_and_tell", "show_attend_tell")
PRECISIONS = ("float32", "mixed_bfloat16")
TOKENIZERS = ("word", "bpe", "char")


def _setting(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


def _require_positive(config: Any, *names: str) -> None:
    for name in names:
        if not 0 < getattr(config, name) < math.inf:
            raise ConfigurationError(f"{name} is {getattr(config, name)}; it must be greater than 0")


def _require_not_negative(config: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(config, name) < math.inf:
            raise ConfigurationError(f"{name} is {getattr(config, name)}; it must be at least 0")


def _require_share(config: Any, name: str) -> None:
    if not 0 <= getattr(config, name) < 1:
        raise ConfigurationError(f"{name} is {getattr(config, name)}; it must be at least 0 and below 1")


@dataclass(frozen=True)
class DataConfig:
    """How captions are indexed."""

    tokenizer: str = _setting("word", "word, or bpe or char for languages without blanks between words")
    vocabulary_size: int = _setting(5000, "most frequent words to keep, special tokens not counted")
    min_count: int = _setting(1, "times a word must occur to be kept")
    max_length: int = _setting(25, "tokens to which captions are padded, <start> and <end> included")

    def __post_init__(self) -> None:
        if self.tokenizer not in TOKENIZERS:
            raise ConfigurationError(f"no tokenizer {self.tokenizer!r}; there are {', '.join(TOKENIZERS)}")
        _require_positive(self, "vocabulary_size", "min_count")
        if self.max_length < 3:
            raise ConfigurationError(f"max_length is {self.max_length}; <start>, one word and <end> need 3")


@dataclass(frozen=True)
class EncoderConfig:
    """Which network turns images into features."""

    encoder: str = _setting("efficientnet_lite2", "name in the table of encoders")
    encoder_weights: str = _setting("imagenet", "imagenet, none, or a weights file")
    grid: bool = _setting(False, "keep the grid of cells instead of their mean")


@dataclass(frozen=True)
class ModelConfig:
    """The decoder's shape and start."""

    decoder: str = _setting("show_and_tell", "show_and_tell, or show_attend_tell, which wants --grid")
    embedding_size: int = _setting(512, "numbers a word vector")
    units: int = _setting(512, "numbers in the LSTM's state")
    layers: int = _setting(1, "LSTM layers")
    dropout: float = _setting(0.3, "share of numbers dropped while training")
    initializer_scale: float = _setting(0.0, "if positive, weights start uniform in ± this")
    word_vectors: str = _setting("", "file of pretrained word vectors in GloVe's text format")

    def __post_init__(self) -> None:
        if self.decoder not in DECODERS:
            raise ConfigurationError(f"no decoder {self.decoder!r}; there are {', '.join(DECODERS)}")
        _require_positive(self, "embedding_size", "units", "layers")
        _require_share(self, "dropout")


@dataclass(frozen=True)
class TrainingConfig:
    """The optimisation."""

    epochs: int = _setting(10, "times through all captions")
    batch_size: int = _setting(64, "captions a step")
    optimizer: str = _setting("adam", "any optimizer of Keras, by name")
    learning_rate: float = _setting(0.0005, "learning rate at the start")
    decay_factor: float = _setting(1.0, "the learning rate is multiplied by this ..")
    decay_epochs: float = _setting(1.0, ".. every so many epochs")
    decay_staircase: bool = _setting(True, "decay in steps instead of smoothly")
    clip_norm: float = _setting(5.0, "largest global norm of the gradients")
    label_smoothing: float = _setting(0.0, "share of probability spread over all words")
    scheduled_sampling: float = _setting(
        0.0, "share of words that are the model's own while training, in the end; it grows from 0"
    )
    precision: str = _setting("float32", "float32, or mixed_bfloat16, which is faster where the processor knows it")
    checkpoint_every: int = _setting(500, "steps between checkpoints")
    sample_every: int = _setting(1000, "steps between captions of 32 random validation images")
    validation_images: int = _setting(1000, "validation images to caption after each epoch")
    beam_size: int = _setting(3, "captions followed at a time, in validation and by the bundle")
    length_penalty: float = _setting(
        0.7, "alpha in log-probability / length ** alpha, likewise; 0 ranks by probability"
    )
    no_repeat_ngram_size: int = _setting(0, "no run of so many words occurs twice in a caption, likewise; 0 allows all")
    seed: int = _setting(0, "seed of all that is random")

    def __post_init__(self) -> None:
        _require_positive(self, "epochs", "batch_size", "learning_rate", "decay_factor", "decay_epochs", "clip_norm")
        _require_positive(self, "checkpoint_every", "sample_every", "validation_images", "beam_size")
        _require_share(self, "label_smoothing")
        _require_share(self, "scheduled_sampling")
        _require_not_negative(self, "seed", "length_penalty", "no_repeat_ngram_size")
        if self.precision not in PRECISIONS:
            raise ConfigurationError(f"no precision {self.precision!r}; there are {', '.join(PRECISIONS)}")


@dataclass(frozen=True)
class FineTuningConfig:
    """The second phase: the encoder learns too."""

    fine_tuning_epochs: int = _setting(0, "times through all images; 0 leaves the phase out")
    fine_tuning_learning_rate: float = _setting(0.0002, "learning rate of the decoder at the start of this phase")
    encoder_learning_rate: float = _setting(0.0001, "learning rate of the encoder, likewise")
    fine_tuned_layers: int = _setting(42, "layers of the encoder that learn, counted from its end")
    fine_tuning_images: int = _setting(16, "images a step, each with all its captions")
    mirror: bool = _setting(True, "mirror images at random; not for captions that tell left from right")

    def __post_init__(self) -> None:
        _require_not_negative(self, "fine_tuning_epochs")
        _require_positive(self, "fine_tuning_learning_rate", "encoder_learning_rate")
        _require_positive(self, "fine_tuned_layers", "fine_tuning_images")


@dataclass(frozen=True)
class SelfCriticalConfig:
    """The last phase: the decoder's own captions are rewarded by CIDEr-D."""

    self_critical_epochs: int = _setting(0, "times through all images; 0 leaves the phase out")
    self_critical_learning_rate: float = _setting(0.00001, "learning rate of this phase")
    self_critical_images: int = _setting(64, "images a step")
    samples_per_image: int = _setting(5, "captions sampled for each image, at least 2")

    def __post_init__(self) -> None:
        _require_not_negative(self, "self_critical_epochs")
        _require_positive(self, "self_critical_learning_rate", "self_critical_images")
        if self.samples_per_image < 2:
            raise ConfigurationError(f"samples_per_image is {self.samples_per_image}; each is compared with the others")


@dataclass(frozen=True)
class Recipe:
    """All settings of a run."""

    data: DataConfig = DataConfig()
    encoder: EncoderConfig = EncoderConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    fine_tuning: FineTuningConfig = FineTuningConfig()
    self_critical: SelfCriticalConfig = SelfCriticalConfig()

    def __post_init__(self) -> None:
        tokenizer = self.data.tokenizer
        if tokenizer != "word" and self.model.word_vectors:
            raise ConfigurationError(f"word_vectors are of words, and the tokenizer {tokenizer} makes none")
        if tokenizer == "char" and self.training.no_repeat_ngram_size:
            raise ConfigurationError(
                f"no_repeat_ngram_size is {self.training.no_repeat_ngram_size}, but the tokenizer is char, and good "
                "captions repeat characters; give --no-repeat-ngram-size 0"
            )

    @classmethod
    def from_dict(cls, value: dict[str, Any], source: str) -> "Recipe":
        """Read sections of settings as TOML or JSON give them. Raises ConfigurationError, naming `source`."""
        sections = {section.name: section.default for section in fields(cls)}
        if unknown := set(value) - set(sections):
            raise ConfigurationError(
                f"{source}: unknown section [{min(unknown)}]; there are {', '.join(f'[{name}]' for name in sections)}"
            )
        return cls(**{name: _read_section(sections[name], settings, source) for name, settings in value.items()})

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Read a TOML recipe. Raises ConfigurationError if it is not one."""
        try:
            return cls.from_dict(tomllib.loads(Path(path).read_text(encoding="utf-8")), str(path))
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot read the recipe: {error.strerror}") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(f"{path}: cannot read the recipe: {error}") from None

    def override(self, settings: dict[str, Any]) -> "Recipe":
        """Return the recipe with settings replaced, each named without its section."""
        changed = {}
        for section in fields(self):
            current = getattr(self, section.name)
            here = {name: value for name, value in settings.items() if name in asdict(current)}
            changed[section.name] = replace(current, **here)
        return Recipe(**changed)

    def to_dict(self) -> dict[str, Any]:
        """Return a form that JSON can hold and `from_dict` reads."""
        return asdict(self)


def _read_section(defaults: Any, settings: Any, source: str) -> Any:
    known: dict[str, Any] = {setting.name: setting.type for setting in fields(defaults)}
    if not isinstance(settings, dict):
        raise ConfigurationError(f"{source}: {settings!r} is not a section of settings")
    checked = {}
    for name, value in settings.items():
        if name not in known:
            raise ConfigurationError(f"{source}: unknown setting {name!r}; there are {', '.join(known)}")
        kind = known[name]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ConfigurationError(f"{source}: {name} is {value!r}; it must be of type {kind.__name__}")
        checked[name] = value
    return replace(defaults, **checked)
