"""The interface of a training phase, and functions that the phases share."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

import keras

from showtell.errors import ConfigurationError
from showtell.recipe import TrainingConfig
from showtell.training.batches import TrainingSplit
from showtell.training.checkpoints import load_model, save_model
from showtell.training.decoders import Decoder, build_decoder
from showtell.training.run import Run


class Phase(Protocol):
    """A phase of a training run. `PhaseTrainer` trains any phase.

    Attributes:
        run: the run, with the folder of this phase.
        epochs: number of epochs.
        steps_per_epoch: number of steps per epoch.
    """

    run: Run
    epochs: int
    steps_per_epoch: int

    def build_model(self) -> keras.Model:
        """Build the compiled model, with the weights of the previous phase."""

    def get_decoder(self, model: keras.Model) -> Decoder:
        """Return the decoder of the model."""

    def generate_batches(self, epoch: int, first: int) -> Iterator[Any]:
        """Yield the batches of an epoch from batch `first` on. They depend on the seed and the epoch only."""

    def train_step(self, model: keras.Model, batch: Any, epoch: int) -> tuple[float, int]:
        """Train on one batch; return the loss and the number of captions."""

    def encode_split(self, model: keras.Model, split: TrainingSplit) -> TrainingSplit:
        """Return the split with features of the current encoder."""

    def is_better(self, record: dict[str, Any], best: dict[str, Any]) -> bool:
        """Return whether the validation of an epoch is better than that of the best epoch so far."""

    def save_best(self, model: keras.Model) -> None:
        """Save the result of the phase."""


class FrozenEncoderPhase:
    """Base class of phases that train the decoder on fixed features."""

    run: Run

    def get_decoder(self, model: Decoder) -> Decoder:
        """Return the model itself."""
        return model

    def encode_split(self, model: Decoder, split: TrainingSplit) -> TrainingSplit:
        """Return the split unchanged."""
        return split

    def is_better(self, record: dict[str, Any], best: dict[str, Any]) -> bool:
        """Compare CIDEr, then the validation loss."""
        return is_improvement(record, best)

    def save_best(self, model: Decoder) -> None:
        """Save the decoder."""
        save_model(model, self.run.best_path)


def is_improvement(record: dict[str, Any], best: dict[str, Any]) -> bool:
    """Return whether CIDEr is higher or, for equal CIDEr such as 0 in early epochs, the validation loss is lower."""
    return bool((record["cider"], -record["val_loss"]) > (best["cider"], -best["val_loss"]))


def load_best_decoder(run: Run, **changes: Any) -> Decoder:
    """Load the best decoder of a run, in the current precision policy of Keras.

    Args:
        run: the run, with the folder of the phase.
        changes: settings of the recipe's model to override, such as the dropout rate.

    Raises:
        ConfigurationError: if no epoch of the phase is complete.
    """
    if not run.best_path.exists():
        raise ConfigurationError(f"{run.folder}: no epoch of this training is complete; resume it with --resume")
    trained = load_model(run.best_path)
    model = replace(run.recipe.model, **changes)
    decoder = build_decoder(model, len(run.vocabulary), trained.config["channels"])
    decoder.set_weights(trained.get_weights())
    return decoder


def make_optimizer(settings: TrainingConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return the optimizer with exponential learning rate decay and gradient clipping by global norm.

    Raises:
        ConfigurationError: if Keras has no optimizer with the name.
    """
    learning_rate: Any = settings.learning_rate
    if settings.decay_factor != 1:
        learning_rate = keras.optimizers.schedules.ExponentialDecay(
            settings.learning_rate,
            decay_steps=max(1, round(settings.decay_epochs * steps_per_epoch)),
            decay_rate=settings.decay_factor,
            staircase=settings.decay_staircase,
        )
    config = {"learning_rate": learning_rate, "global_clipnorm": settings.clip_norm}
    try:
        optimizer = keras.optimizers.get({"class_name": settings.optimizer, "config": config})
    except (ValueError, TypeError):
        optimizer = None
    if optimizer is None or type(optimizer) is keras.optimizers.Optimizer:  # the base class is not usable
        raise ConfigurationError(
            f"optimizer {settings.optimizer!r}: Keras has no optimizer with this name; try adam or sgd"
        )
    return optimizer


def compile_model(model: keras.Model, optimizer: keras.optimizers.Optimizer, loss: keras.losses.Loss) -> None:
    """Compile a model for training."""
    # XLA would recompile the model for each batch width, and its LSTM is several times slower on a CPU.
    model.compile(optimizer, loss, jit_compile="auto" if keras.backend.backend() == "jax" else False)
    optimizer.build(model.trainable_variables)  # a checkpoint before the first step needs the optimizer's state
