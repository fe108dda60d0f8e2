"""The training loop: phases, epochs and steps."""

import logging
import shlex
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from showtell.errors import Interrupted, ShowtellError
from showtell.training.batches import TrainingSplit, sample_images
from showtell.training.cross_entropy import CrossEntropy
from showtell.training.decoders import KerasDecoderStep
from showtell.training.fine_tuning import FineTuning
from showtell.training.phases import Phase
from showtell.training.run import Run
from showtell.training.samples import SAMPLE_IMAGES, SampleWriter
from showtell.training.self_critical import SelfCritical
from showtell.training.tensorboard import TensorBoardWriter
from showtell.training.tuned_encoder import extract_fine_tuned_features
from showtell.training.validation import Validation, caption_images, validate
from showtell.utils.signals import stop_signals

StepProgress = Callable[[int, int, str], None]

TENSORBOARD_STEPS = 20
# An untrained model captions all images alike, so the first epochs are not checked for collapse.
COLLAPSE_PATIENCE = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingContext:
    """The objects that all phases of a training share.

    Attributes:
        run: the run, with its own folder.
        validation: the validation data, if any.
        progress: called after every step with the step, the total number of steps, and the latest figures as text.
        stop_event: set when the training must stop.
    """

    run: Run
    validation: TrainingSplit | None
    progress: StepProgress
    stop_event: threading.Event

    def interrupted(self, position: str) -> Interrupted:
        """Return the error for a training that was stopped at a position, with a hint."""
        command = f"showtell train -o {shlex.quote(str(self.run.folder))} --resume"
        return Interrupted(f"stopped {position}; resume with: {command}")


def train(
    run: Run,
    training: TrainingSplit,
    validation: TrainingSplit | None,
    progress: StepProgress = lambda step, steps, figures: None,
) -> None:
    """Train all phases of the recipe in order. A run with checkpoints is resumed.

    The order of the captions depends on the seed and the epoch only, and a checkpoint contains the state of the
    optimizer and of dropout. An interrupted training therefore ends with the same weights as an uninterrupted one.

    Args:
        run: the run. All files are written to its folder.
        training: the training data.
        validation: the validation data, if any. Without it, the last epoch counts as the best.
        progress: called after every step with the step, the total number of steps, and the latest figures as text.

    Raises:
        Interrupted: on Ctrl-C or SIGTERM, after a checkpoint or features were written.
        ConfigurationError: if a phase lacks images, an encoder, or a backend that can export the encoder.
        ShowtellError: if the loss is not finite.
    """
    keras.config.set_dtype_policy(run.recipe.training.precision)
    # Created before the first phase is trained, so that missing images are reported now.
    fine_tuning = FineTuning(run.fine_tuning, run, training) if run.fine_tuning else None
    with stop_signals() as stop_event:
        context = TrainingContext(run, validation, progress, stop_event)
        _train_phase(context, CrossEntropy(run, training))
        previous = run
        if fine_tuning:
            _train_phase(context, fine_tuning)
            previous = fine_tuning.run
        if run.self_critical:
            if fine_tuning:
                training, validation = _extract_features(context, previous, training)
                context = replace(context, validation=validation)
            _train_phase(context, SelfCritical(run.self_critical, previous, training))


def make_deterministic(seed: int) -> None:
    """Seed all random generators, and make the TensorFlow backend use deterministic operations."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()


def _extract_features(
    context: TrainingContext, run: Run, training: TrainingSplit
) -> tuple[TrainingSplit, TrainingSplit | None]:
    def stop_if_requested(done: int, total: int) -> None:
        if context.stop_event.is_set():
            raise context.interrupted(f"after the features of {done} of {total} images")

    return extract_fine_tuned_features(run, training, context.validation, stop_if_requested)


def _train_phase(context: TrainingContext, phase: Phase) -> None:
    """Train a phase, from its latest checkpoint if there is one. Do nothing if it is complete."""
    is_later_phase = phase.run.folder != context.run.folder
    starts_trained = is_later_phase or bool(context.run.data_paths.start_from)
    if len(phase.run.read_history()) >= phase.epochs + starts_trained:
        return
    make_deterministic(context.run.recipe.training.seed)
    if is_later_phase:
        logger.info("phase: %s", phase.run.folder.name)
    phase.run.remove_temporary_files()
    model = phase.run.checkpoints.load_latest_checkpoint()
    if model is None:
        model = phase.build_model()
    else:
        steps = phase.epochs * phase.steps_per_epoch
        logger.info("resuming from step %d of %d", int(model.optimizer.iterations), steps)
    with TensorBoardWriter(phase.run.folder / "tensorboard") as tensorboard:
        PhaseTrainer(context, phase, model, tensorboard, starts_trained).train()


class EpochMeter:
    """Measures loss, speed and duration of an epoch, from its creation on.

    Attributes:
        steps: the number of steps so far.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._captions = 0
        self._losses = 0.0
        self._start, self._cpu_start = time.monotonic(), time.process_time()

    def add_step(self, loss: float, captions: int) -> None:
        """Record a step."""
        self.steps += 1
        self._captions += captions
        self._losses += loss

    @property
    def mean_loss(self) -> float | None:
        """The mean loss per step; None before the first step."""
        return self._losses / self.steps if self.steps else None

    @property
    def captions_per_second(self) -> float:
        """The training speed."""
        return self._captions / max(self.seconds, 1e-9)

    @property
    def seconds(self) -> float:
        """The duration so far."""
        return time.monotonic() - self._start

    @property
    def cpu_seconds(self) -> float:
        """The processor time so far."""
        return time.process_time() - self._cpu_start


class PhaseTrainer:
    """Trains one phase: epochs and steps, with checkpoints, validation, samples and history.

    Args:
        context: the objects that all phases share.
        phase: the phase.
        model: the compiled model, new or from a checkpoint.
        tensorboard: where to show the figures.
        starts_trained: whether the model is already trained when the phase starts. Its validation is then recorded as
            epoch 0, and it remains the best model if no epoch is better.
    """

    def __init__(
        self,
        context: TrainingContext,
        phase: Phase,
        model: keras.Model,
        tensorboard: TensorBoardWriter,
        starts_trained: bool,
    ):
        self._context = context
        self._phase = phase
        self._model = model
        self._tensorboard = tensorboard
        self._starts_trained = starts_trained
        self._run = phase.run
        self._settings = context.run.recipe.training
        self._total_steps = phase.epochs * phase.steps_per_epoch
        # Kept, because a new instance would be compiled again.
        self._decoder_step = KerasDecoderStep(phase.get_decoder(model))
        folders = self._run.data_paths.images
        images = Path(folders[-1]) if folders else None
        self._samples = SampleWriter(self._run.folder / "samples", images, tensorboard)
        self._meter = EpochMeter()

    def train(self) -> None:
        """Train the remaining epochs."""
        if self._starts_trained and not self._run.read_history():
            self._end_epoch(0)
        for epoch in range(self._phase.epochs):
            self._meter = EpochMeter()
            self._train_epoch(epoch)
            if len(self._run.read_history()) <= epoch + self._starts_trained:
                self._end_epoch(epoch + 1)

    @property
    def _step(self) -> int:
        """The number of steps so far, including those before a resume."""
        return int(self._model.optimizer.iterations)

    def _train_epoch(self, epoch: int) -> None:
        """Train the remaining steps of an epoch, counted from 0."""
        first = max(0, self._step - epoch * self._phase.steps_per_epoch)
        if first < self._phase.steps_per_epoch:
            for batch in self._phase.generate_batches(epoch, first):
                loss, captions = self._phase.train_step(self._model, batch, epoch)
                self._end_step(epoch, loss, captions)

    def _end_step(self, epoch: int, loss: float, captions: int) -> None:
        """Report a step; write a checkpoint and samples if they are due."""
        step = self._step
        if not np.isfinite(loss):
            raise ShowtellError(
                f"the loss is {loss} at step {step}; lower the learning rate or the clipping norm. Checkpoints are in "
                f"{self._run.checkpoints.folder}"
            )
        self._meter.add_step(loss, captions)
        self._report_step(epoch, step, loss)
        must_stop = self._context.stop_event.is_set()
        if must_stop or step % self._settings.checkpoint_every == 0:
            self._run.checkpoints.save(self._model, step)
        if must_stop:
            raise self._context.interrupted(f"at step {step} of {self._total_steps}")
        if step % self._settings.sample_every == 0:
            self._write_samples(step)

    def _report_step(self, epoch: int, step: int, loss: float) -> None:
        learning_rate = float(keras.ops.convert_to_numpy(self._model.optimizer.learning_rate))
        speed = self._meter.captions_per_second
        self._context.progress(
            step,
            self._total_steps,
            f"epoch {epoch + 1}, loss {self._meter.mean_loss:.3f}, learning rate {learning_rate:.2g}, "
            f"{speed:.0f} captions/s",
        )
        if step % TENSORBOARD_STEPS == 0:
            scalars = {"loss": loss, "learning_rate": learning_rate, "captions_per_second": speed}
            for name, value in scalars.items():
                self._tensorboard.add_scalar(name, value, step)

    def _end_epoch(self, number: int) -> None:
        """Write a checkpoint, validate, keep the best model, and record the epoch; `number` is 0 before training."""
        step = self._step
        self._run.checkpoints.save(self._model, step)
        record: dict[str, Any] = {
            "epoch": number,
            "step": step,
            # For a resumed epoch, loss and seconds cover only the rest of it.
            "resumed": number > 0 and self._meter.steps < self._phase.steps_per_epoch,
            "loss": self._meter.mean_loss,
        }
        history = self._run.read_history()
        validation = self._validate()
        is_best = True
        if validation is not None:
            record |= validation.to_record()
            best = next((past for past in reversed(history) if past["best"]), None)
            is_best = best is None or self._phase.is_better(record, best)
            for name, value in validation.to_record().items():
                self._tensorboard.add_scalar(f"validation/{name}", value, step)
        if is_best:
            self._phase.save_best(self._model)
        record |= {"best": is_best, "seconds": self._meter.seconds, "cpu_seconds": self._meter.cpu_seconds}
        self._run.write_history([*history, record])
        logger.info("%s", describe_epoch(record))
        is_last = number == self._phase.epochs
        if is_last:
            self._write_samples(step)
        is_settled = number > COLLAPSE_PATIENCE or is_last or self._starts_trained
        if validation is not None and validation.is_collapsed and is_settled:
            logger.warning("%s", validation.describe_collapse())

    def _validate(self) -> Validation | None:
        """Validate on random images, the same ones after every epoch; None if there are no validation data."""
        data = self._context.validation
        if data is None:
            return None
        positions = np.sort(sample_images(data, self._settings.validation_images, (self._settings.seed,)))
        return validate(
            self._phase.get_decoder(self._model),
            self._decoder_step,
            self._phase.encode_split(self._model, data.select_images(positions)),
            self._run.vocabulary,
            self._run.search_options,
            self._settings.batch_size,
        )

    def _write_samples(self, step: int) -> None:
        """Write captions of random validation images, different ones at each step."""
        data = self._context.validation
        if data is None:
            return
        positions = sample_images(data, SAMPLE_IMAGES, (self._settings.seed, step))
        split = self._phase.encode_split(self._model, data.select_images(positions))
        captions = caption_images(self._decoder_step, split, self._run.vocabulary, self._run.search_options)
        self._samples.write(step, split.images, captions)


def describe_epoch(record: dict[str, Any]) -> str:
    """Return the record of an epoch as one line of text."""
    parts = [f"epoch {record['epoch']}"]
    if record["loss"] is not None:
        parts += [f"loss {record['loss']:.3f}"]
    if "val_loss" in record:
        bleus = " ".join(f"{record[f'bleu_{order}']:.1f}" for order in range(1, 5))
        parts += [
            f"validation loss {record['val_loss']:.3f}",
            f"BLEU-1..4 {bleus}",
            f"CIDEr {record['cider']:.1f}",
            f"distinct {record['distinct']:.0%}",
            f"repeated bigrams {record['repeated_bigrams']:.1%}",
        ]
    parts += [f"{record['seconds']:.0f} s" + (" since it was resumed" if record["resumed"] else "")]
    if "val_loss" in record:
        parts += ["the best so far" if record["best"] else "not the best"]
    return ", ".join(parts)
