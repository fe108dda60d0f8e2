"""The training loop: phases, epochs, steps, and what is due after each."""

import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from showtell.drawing.fonts import Fonts
from showtell.errors import Interrupted, ShowtellError
from showtell.training import monitors
from showtell.training.batches import TrainingSplit, sample_rows
from showtell.training.cross_entropy import CrossEntropy
from showtell.training.decoders import KerasDecoderStep
from showtell.training.fine_tuning import FineTuning, tuned_features
from showtell.training.phases import Phase
from showtell.training.run import Run
from showtell.training.self_critical import SelfCritical
from showtell.training.tensorboard import TensorBoardWriter
from showtell.utils.signals import stop_signals

Say = Callable[[str], None]
Progress = Callable[[int, int, str], None]
BOARD_EVERY = 20
PATIENCE = 3


def train(
    run: Run,
    training: TrainingSplit,
    validation: TrainingSplit | None,
    say: Say = print,
    progress: Progress = lambda step, steps, more: None,
) -> None:
    """Train through all phases of the recipe, going on from the newest checkpoint if there is one.

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
        Interrupted: on Ctrl-C or SIGTERM, after a checkpoint or features were written.
        ConfigurationError: if a phase lacks what it needs.
        ShowtellError: if the loss is no longer a number.
    """
    keras.config.set_dtype_policy(run.recipe.training.precision)
    # Made before the first phase is trained, so that what it lacks shows now.
    tuning = FineTuning(run.fine_tuning, run, training) if run.fine_tuning else None
    with stop_signals() as stopping:

        def extracted(done: int, total: int) -> None:
            if stopping.is_set():
                raise _interrupted(f"after the features of {done} of {total} images", run.folder)

        PhaseTrainer(run, CrossEntropy(run, training, say), validation, say, progress, stopping).train()
        before = run
        if run.fine_tuning and tuning:
            PhaseTrainer(run, tuning, validation, say, progress, stopping).train()
            before = run.fine_tuning
            if run.self_critical:
                training, validation = tuned_features(before, training, validation, say, extracted)
        if run.self_critical:
            last = SelfCritical(run.self_critical, before, training)
            PhaseTrainer(run, last, validation, say, progress, stopping).train()


def make_deterministic(seed: int) -> None:
    """Seed all random generators and have the backend add up in a fixed order."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()


class PhaseTrainer:
    """The training of one phase: its epochs and steps, and what is due after each."""

    def __init__(
        self,
        run: Run,
        phase: Phase,
        validation: TrainingSplit | None,
        say: Say,
        progress: Progress,
        stopping: threading.Event,
    ):
        self._whole = run
        self._run = phase.run
        self._phase = phase
        self._settings = run.recipe.training
        self._validation = validation
        self._progress = progress
        self._say = say
        self._stopping = stopping
        self._steps = phase.epochs * phase.steps_an_epoch
        self._options = run.search_options
        self._fonts = Fonts()
        self._font_notes: list[str] = []

    def train(self) -> None:
        """Train until the last epoch has ended; do nothing if it had before."""
        if len(self._run.history()) >= self._phase.epochs + self._has_learnt:
            return
        make_deterministic(self._settings.seed)
        model = self._run.load_latest_checkpoint(self._say)
        if self._is_later:
            self._say(f"phase: {self._run.folder.name}")
        if model is None:
            model = self._phase.new_model()
        else:
            self._say(f"going on from step {int(model.optimizer.iterations)} of {self._steps}")
        self._model = model
        self._step = KerasDecoderStep(self._phase.decoder(model))  # kept, because every new one is compiled anew
        steps_an_epoch = self._phase.steps_an_epoch
        with TensorBoardWriter(self._run.folder / "tensorboard") as self._board:
            if self._has_learnt and not self._run.history():
                self._begin_epoch()
                self._end_epoch(-1)  # what it begins with, so that its best is not worse
            for epoch in range(self._phase.epochs):
                self._begin_epoch()
                done = int(model.optimizer.iterations) - epoch * steps_an_epoch
                if done < steps_an_epoch:
                    for batch in self._phase.batches(epoch, max(done, 0)):
                        loss, captions = self._phase.train_on(model, batch, epoch)
                        self._end_step(epoch, loss, captions)
                if len(self._run.history()) <= epoch + self._has_learnt:
                    self._end_epoch(epoch)

    @property
    def _is_later(self) -> bool:
        return self._run.folder != self._whole.folder

    @property
    def _has_learnt(self) -> bool:
        return self._is_later or bool(self._whole.sources.start_from)

    def _begin_epoch(self) -> None:
        self._began = time.monotonic(), time.process_time()
        self._steps_done = self._captions_done = 0
        self._losses = 0.0

    def _end_step(self, epoch: int, loss: float, captions: int) -> None:
        """Report the step and its loss, and do what is due after it."""
        step = int(self._model.optimizer.iterations)
        if not np.isfinite(loss):
            raise ShowtellError(
                f"the loss is {loss} at step {step}; lower the learning rate, or the clipping norm. "
                f"Checkpoints so far are in {self._run.folder / 'checkpoints'}"
            )
        self._losses += loss
        self._steps_done += 1
        self._captions_done += captions
        rate = self._captions_done / max(time.monotonic() - self._began[0], 1e-9)
        learning_rate = float(keras.ops.convert_to_numpy(self._model.optimizer.learning_rate))
        mean = self._losses / self._steps_done
        more = f"epoch {epoch + 1}, loss {mean:.3f}, learning rate {learning_rate:.2g}, {rate:.0f} captions/s"
        self._progress(step, self._steps, more)
        if step % BOARD_EVERY == 0:
            self._board.add_scalar("loss", loss, step)
            self._board.add_scalar("learning_rate", learning_rate, step)
            self._board.add_scalar("captions_per_second", rate, step)
        if step % self._settings.checkpoint_every == 0 or self._stopping.is_set():
            self._run.save(self._model, step)
        if self._stopping.is_set():
            raise _interrupted(f"at step {step} of {self._steps}", self._whole.folder)
        if step % self._settings.sample_every == 0:
            self._sample(step)

    def _end_epoch(self, epoch: int) -> None:
        """Checkpoint, validate, keep the best, and record the epoch."""
        step = int(self._model.optimizer.iterations)
        self._run.save(self._model, step)
        # Loss and seconds are then of the rest of the epoch alone.
        resumed = epoch >= 0 and self._steps_done < self._phase.steps_an_epoch
        record: dict[str, Any] = {"epoch": epoch + 1, "step": step, "resumed": resumed, "loss": None}
        if self._steps_done:  # there are none if the run was stopped between the epoch and its validation
            record["loss"] = self._losses / self._steps_done
        history = self._run.history()
        better = True
        collapsed = None
        if self._validation is not None:
            count = self._settings.validation_images
            chosen = np.sort(sample_rows(self._validation, count, (self._settings.seed,)))
            split = self._phase.encoded(self._model, self._validation.of_images(chosen))
            decoder = self._phase.decoder(self._model)
            found = monitors.validate(
                decoder, self._step, split, self._run.vocabulary, self._options, self._settings.batch_size
            )
            record |= found.record()
            better = not history or self._phase.is_better(record, next(past for past in history[::-1] if past["best"]))
            collapsed = found if found.collapsed else None
            for name, value in found.record().items():
                self._board.add_scalar(f"validation/{name}", value, step)
        if better:
            self._phase.save_best(self._model)
        record["best"] = better
        record["seconds"], record["cpu_seconds"] = (
            now - began for now, began in zip((time.monotonic(), time.process_time()), self._began, strict=True)
        )
        self._run.write_history([*history, record])
        self._say(monitors.epoch_line(record))
        last = epoch + 1 == self._phase.epochs
        if last:
            self._sample(step)
        # Every model begins by saying the same of all images.
        if collapsed and (epoch >= PATIENCE or last or self._has_learnt):
            self._say(
                f"WARNING: {collapsed.scores.distinct:.1%} of captions are distinct, and the loss with exchanged "
                f"images is {collapsed.shuffled_loss:.3f} against {collapsed.loss:.3f}. {monitors.COLLAPSE_ADVICE}"
            )

    def _sample(self, step: int) -> None:
        if self._validation is None:
            return
        chosen = sample_rows(self._validation, monitors.SAMPLES, (self._settings.seed, step))
        split = self._phase.encoded(self._model, self._validation.of_images(chosen))
        captions = monitors.caption_images(self._step, split, self._run.vocabulary, self._options)
        images = Path(self._run.sources.images[-1]) if self._run.sources.images else None
        folder = self._run.folder / "samples"
        monitors.write_samples(folder, step, split.images, captions, images, self._fonts, self._board)
        if not self._font_notes:
            self._font_notes = self._fonts.notes
            for note in self._font_notes:
                self._say(f"note: {note}; the texts beside them are whole")
        for name, caption in list(zip(split.images, captions, strict=True))[:4]:
            self._say(f"  {name}: {caption}")


def _interrupted(where: str, folder: Path) -> Interrupted:
    return Interrupted(f"stopped {where}; go on with: showtell train -o {shlex.quote(str(folder))} --resume")
