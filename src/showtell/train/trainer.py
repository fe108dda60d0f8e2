"""The training of a decoder on features."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tensorboardX import SummaryWriter

from showtell.errors import ConfigurationError, ShowtellError
from showtell.recipe import TrainingConfig
from showtell.train import monitors
from showtell.train.batches import Batches, TrainingSplit, batches_in, sample_rows
from showtell.train.decoders import KerasStep, MaskedCrossEntropy, ShowAndTell, set_word_vectors
from showtell.train.run import Run, load_decoder, save_decoder
from showtell.train.word_vectors import read_word_vectors

Say = Callable[[str], None]
BOARD_EVERY = 20
PATIENCE = 3


class Interrupted(ShowtellError):
    """A training that was asked to stop, and has saved where it was."""


def train(
    run: Run,
    training: TrainingSplit,
    validation: TrainingSplit | None,
    say: Say = print,
    progress: Callable[[int, int, str], None] = lambda step, steps, more: None,
) -> None:
    """Train until the recipe's last epoch has ended, going on from the newest checkpoint if there is one.

    The order of captions follows from seed and epoch, and a checkpoint holds the optimizer's and dropout's state, so an
    interrupted training ends with the weights of an uninterrupted one.

    Args:
        run: the run; its folder receives all that is written.
        training: what to train on.
        validation: what to validate with after each epoch, if anything.
        say: called with lines for people.
        progress: called after every step with its number, the number of steps in all, and epoch, loss, learning rate
            and captions a second as text.

    Raises:
        Interrupted: on Ctrl-C or SIGTERM, after a checkpoint was written.
        ShowtellError: if the loss is no longer a number.
    """
    settings = run.recipe.training
    make_deterministic(settings.seed)
    steps_an_epoch = batches_in(len(training.captions), settings.batch_size)
    decoder = run.newest()
    if decoder is None:
        decoder = new_decoder(run, training.features.shape[2], steps_an_epoch, say)
    else:
        say(f"going on from step {int(decoder.optimizer.iterations)} of {settings.epochs * steps_an_epoch}")
    with SummaryWriter(str(run.folder / "tensorboard")) as board, stop_signals() as stopping:
        watch = _Watch(run, validation, board, progress, say, stopping, settings.epochs * steps_an_epoch)
        for epoch in range(settings.epochs):
            watch.begin_epoch()
            done = int(decoder.optimizer.iterations) - epoch * steps_an_epoch
            if done < steps_an_epoch:
                batches = Batches(training, settings.batch_size, settings.seed, epoch, first=max(done, 0))
                for inputs, targets in batches:
                    loss = decoder.train_on_batch(inputs, targets)
                    watch.end_step(decoder, epoch, float(loss))
            if len(run.history()) <= epoch:
                watch.end_epoch(decoder, epoch)


def new_decoder(run: Run, channels: int, steps_an_epoch: int, say: Say) -> ShowAndTell:
    """Make the recipe's decoder, untrained, ready for `fit`."""
    model, settings = run.recipe.model, run.recipe.training
    decoder = ShowAndTell(
        len(run.vocabulary),
        channels,
        embedding_size=model.embedding_size,
        units=model.units,
        layers=model.layers,
        dropout=model.dropout,
        initializer_scale=model.initializer_scale,
    )
    decoder.build()
    if model.word_vectors:
        vectors = read_word_vectors(Path(model.word_vectors), model.embedding_size, set(run.vocabulary.words))
        known = set_word_vectors(decoder, run.vocabulary.words, vectors)
        share = known / len(run.vocabulary)
        say(f"{model.word_vectors}: vectors for {known} of {len(run.vocabulary)} words ({share:.0%})")
    # XLA would compile each batch width anew, and on a CPU its LSTM is several times slower.
    jit_compile = "auto" if keras.backend.backend() == "jax" else False
    optimizer = make_optimizer(settings, steps_an_epoch)
    decoder.compile(optimizer, MaskedCrossEntropy(settings.label_smoothing), jit_compile=jit_compile)
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


def make_deterministic(seed: int) -> None:
    """Seed all random generators and have the backend add up in a fixed order."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C and SIGTERM set, instead of stopping the program in the middle of a step."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    previous: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _: object) -> None:
        stopping.set()
        signal.signal(number, previous[number])  # whoever asks twice does not want to wait

    for number in previous:
        signal.signal(number, stop)
    try:
        yield stopping
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Watch:
    """Does after a step what is due then: progress, checkpoint, samples; and after an epoch the validation."""

    def __init__(
        self,
        run: Run,
        validation: TrainingSplit | None,
        board: SummaryWriter,
        progress: Callable[[int, int, str], None],
        say: Say,
        stopping: threading.Event,
        steps: int,
    ):
        self._run = run
        self._settings = run.recipe.training
        self._validation = validation
        self._board = board
        self._progress = progress
        self._say = say
        self._stopping = stopping
        self._steps = steps
        self._options = run.search_options
        self._keras_step: KerasStep | None = None
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Start the clock."""
        self._began = time.monotonic()
        self._steps_done = 0
        self._losses = 0.0

    def end_step(self, decoder: ShowAndTell, epoch: int, loss: float) -> None:
        """Report the step and its loss, and do what is due after it."""
        step = int(decoder.optimizer.iterations)
        if not np.isfinite(loss):
            raise ShowtellError(
                f"the loss is {loss} at step {step}; lower the learning rate, or the clipping norm. "
                f"Checkpoints so far are in {self._run.folder / 'checkpoints'}"
            )
        self._losses += loss
        self._steps_done += 1
        rate = self._steps_done * self._settings.batch_size / max(time.monotonic() - self._began, 1e-9)
        learning_rate = float(keras.ops.convert_to_numpy(decoder.optimizer.learning_rate))
        mean = self._losses / self._steps_done
        more = f"epoch {epoch + 1}, loss {mean:.3f}, learning rate {learning_rate:.2g}, {rate:.0f} captions/s"
        self._progress(step, self._steps, more)
        if step % BOARD_EVERY == 0:
            self._board.add_scalar("loss", loss, step)
            self._board.add_scalar("learning_rate", learning_rate, step)
            self._board.add_scalar("captions_per_second", rate, step)
        if step % self._settings.checkpoint_every == 0 or self._stopping.is_set():
            self._run.save(decoder, step)
        if self._stopping.is_set():
            raise Interrupted(
                f"stopped at step {step} of {self._steps}; go on with: showtell train -o {self._run.folder} --resume"
            )
        if step % self._settings.sample_every == 0:
            self._sample(decoder, step)

    def end_epoch(self, decoder: ShowAndTell, epoch: int) -> None:
        """Checkpoint, validate, keep the best, and record the epoch."""
        step = int(decoder.optimizer.iterations)
        self._run.save(decoder, step)
        record: dict[str, Any] = {"epoch": epoch + 1, "step": step, "loss": None}
        if self._steps_done:  # there are none if the run was stopped between the epoch and its validation
            record["loss"] = self._losses / self._steps_done
        history = self._run.history()
        if self._validation is None:
            save_decoder(decoder, self._run.best)
        else:
            count = self._settings.validation_images
            chosen = np.sort(sample_rows(self._validation, count, (self._settings.seed,)))
            step_of = self._step_of(decoder)
            found = monitors.validate(
                decoder,
                step_of,
                self._validation,
                chosen,
                self._run.vocabulary,
                self._options,
                self._settings.batch_size,
            )
            record |= found.record()
            if not history or record["cider"] > max(past["cider"] for past in history):
                save_decoder(decoder, self._run.best)
            for name, value in found.record().items():
                self._board.add_scalar(f"validation/{name}", value, step)
        record["seconds"] = time.monotonic() - self._began
        self._run.write_history([*history, record])
        self._say(monitors.epoch_line(record))
        last = epoch + 1 == self._settings.epochs
        if last:
            self._sample(decoder, step)
        # Every model begins by saying the same of all images.
        if self._validation is not None and found.collapsed and (epoch >= PATIENCE or last):
            self._say(
                f"WARNING: {found.scores.distinct:.1%} of captions are distinct, and the loss with exchanged images is "
                f"{found.shuffled_loss:.3f} against {found.loss:.3f}. {monitors.COLLAPSE_ADVICE}"
            )

    def _step_of(self, decoder: ShowAndTell) -> KerasStep:
        # Kept, because every new one is compiled anew.
        if self._keras_step is None:
            self._keras_step = KerasStep(decoder)
        return self._keras_step

    def _sample(self, decoder: ShowAndTell, step: int) -> None:
        split = self._validation
        if split is None:
            return
        chosen = sample_rows(split, monitors.SAMPLES, (self._settings.seed, step))
        captions = monitors.caption_rows(self._step_of(decoder), split, chosen, self._run.vocabulary, self._options)
        names = [split.images[position] for position in chosen]
        images = Path(self._run.sources.images[-1]) if self._run.sources.images else None
        monitors.write_samples(self._run.folder / "samples", step, names, captions, images, self._board)
        for name, caption in list(zip(names, captions, strict=True))[:4]:
            self._say(f"  {name}: {caption}")


def best_decoder(run: Run) -> ShowAndTell:
    """Load the best checkpoint of a run. Raises ConfigurationError if no epoch has ended yet."""
    if not run.best.exists():
        raise ConfigurationError(f"{run.folder}: no epoch has ended yet; train on with --resume")
    return load_decoder(run.best)
