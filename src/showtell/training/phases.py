"""What a phase of training is, and what phases share."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

import keras

from showtell.errors import ConfigurationError
from showtell.recipe import TrainingConfig
from showtell.training.batches import TrainingSplit
from showtell.training.decoders import Decoder, new_decoder
from showtell.training.run import Run, load_model, save_model


class Phase(Protocol):
    """A part of a training with its own steps; the trainer runs it, and knows nothing else of it.

    Attributes:
        run: the run, in this phase's folder.
        epochs: times through the training data.
        steps_an_epoch: steps in each of them.
    """

    run: Run
    epochs: int
    steps_an_epoch: int

    def new_model(self) -> keras.Model:
        """Make the model that is trained, with its optimizer, from what the phase before has left."""

    def decoder(self, model: keras.Model) -> Decoder:
        """Return the decoder in the model."""

    def batches(self, epoch: int, first: int) -> Iterator[Any]:
        """Yield the batches of an epoch from batch `first` on, the same ones each time."""

    def train_on(self, model: keras.Model, batch: Any, epoch: int) -> tuple[float, int]:
        """Take a step; return the loss, and how many captions were learnt from."""

    def encoded(self, model: keras.Model, split: TrainingSplit) -> TrainingSplit:
        """Return the split with the features that the encoder gives now."""

    def is_better(self, record: dict[str, Any], best: dict[str, Any]) -> bool:
        """Say whether one epoch's validation is better than another's."""

    def save_best(self, model: keras.Model) -> None:
        """Keep what this phase is there for."""


class FrozenEncoder:
    """What phases on fixed features have in common."""

    run: Run

    def decoder(self, model: Decoder) -> Decoder:
        """Return the model itself."""
        return model

    def encoded(self, model: Decoder, split: TrainingSplit) -> TrainingSplit:
        """Return the split as it is."""
        return split

    def is_better(self, record: dict[str, Any], best: dict[str, Any]) -> bool:
        """Compare CIDEr, then the loss."""
        return improves(record, best)

    def save_best(self, model: Decoder) -> None:
        """Write the decoder."""
        save_model(model, self.run.best)


def improves(record: dict[str, Any], best: dict[str, Any]) -> bool:
    """Say whether CIDEr is higher, or, where both have the same, as of a beginner's 0, the validation loss is lower."""
    return bool((record["cider"], -record["val_loss"]) > (best["cider"], -best["val_loss"]))


def best_decoder(run: Run, **changes: Any) -> Decoder:
    """Load the best decoder of a run, in the precision that is set now.

    Args:
        run: the run, in the folder of the phase that is meant.
        changes: settings of the model that are to differ, such as its dropout.

    Raises:
        ConfigurationError: if no epoch of that phase has ended yet.
    """
    if not run.best.exists():
        raise ConfigurationError(f"{run.folder}: its training has not come to an end yet; go on with --resume")
    trained = load_model(run.best)
    decoder = new_decoder(replace(run.recipe.model, **changes), len(run.vocabulary), trained.config["channels"])
    decoder.set_weights(trained.get_weights())
    return decoder


def make_optimizer(settings: TrainingConfig, steps_an_epoch: int) -> keras.optimizers.Optimizer:
    """Return the optimizer, with the exponential decay of Show and Tell and clipping by global norm.

    Raises ConfigurationError if Keras has no optimizer of that name.
    """
    schedule: Any = settings.learning_rate
    if settings.decay_factor != 1:
        schedule = keras.optimizers.schedules.ExponentialDecay(
            settings.learning_rate,
            decay_steps=max(1, round(settings.decay_epochs * steps_an_epoch)),
            decay_rate=settings.decay_factor,
            staircase=settings.decay_staircase,
        )
    config = {"learning_rate": schedule, "global_clipnorm": settings.clip_norm}
    try:
        return keras.optimizers.get({"class_name": settings.optimizer, "config": config})
    except (ValueError, TypeError):
        raise ConfigurationError(
            f"optimizer {settings.optimizer!r}: Keras has none of this name; try adam or sgd"
        ) from None


def compile_model(model: keras.Model, optimizer: keras.optimizers.Optimizer, loss: keras.losses.Loss) -> None:
    """Compile a model for training."""
    # XLA would compile each batch width anew, and on a CPU its LSTM is several times slower.
    model.compile(optimizer, loss, jit_compile="auto" if keras.backend.backend() == "jax" else False)
    optimizer.build(model.trainable_variables)  # or a checkpoint before the first step would lack its state
