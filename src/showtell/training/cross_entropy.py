"""The first phase: train the decoder on features of a frozen encoder, with cross-entropy."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from showtell.recipe import TrainingConfig
from showtell.training.batches import Batches, TrainingSplit, count_batches
from showtell.training.decoders import Decoder, build_decoder, set_word_vectors
from showtell.training.devices import pad_for_devices
from showtell.training.loss import MaskedCrossEntropy
from showtell.training.phases import FrozenEncoderPhase, compile_model, make_optimizer
from showtell.training.run import START_WEIGHTS, Run
from showtell.training.warm_start import load_extended_weights
from showtell.training.word_vectors import read_word_vectors
from showtell.vocabulary import END, PAD

logger = logging.getLogger(__name__)


class CrossEntropy(FrozenEncoderPhase):
    """Teacher forcing with cross-entropy, optionally with scheduled sampling.

    Scheduled sampling (Bengio et al. 2015, https://arxiv.org/abs/1506.03099) uses the two passes of Mihaylova and
    Martins (2019, https://arxiv.org/abs/1906.07651): the first pass reads the reference caption and samples a token for
    each position; the second pass, which is trained, reads a share of these instead of the reference tokens. Both
    passes process all positions in parallel. The share grows linearly over the epochs.

    Args:
        run: the run.
        training: captions and features.
    """

    def __init__(self, run: Run, training: TrainingSplit):
        self.run = run
        self.settings: TrainingConfig = run.recipe.training
        self.epochs = self.settings.epochs
        self.steps_per_epoch = count_batches(len(training.captions), self.settings.batch_size)
        self._training = training

    def build_model(self) -> Decoder:
        """Build the recipe's decoder, with random weights or with those of `--start-from`."""
        model = self.run.recipe.model
        decoder = build_decoder(model, len(self.run.vocabulary), self._training.features.shape[2])
        if model.word_vectors:
            self._load_word_vectors(decoder, Path(model.word_vectors), model.embedding_size)
        if self.run.data_paths.start_from:
            with np.load(self.run.folder / START_WEIGHTS) as weights:
                new_tokens = load_extended_weights(decoder, dict(weights))
            logger.info("starting from %s, with %d new words", self.run.data_paths.start_from, new_tokens)
        optimizer = make_optimizer(self.settings, self.steps_per_epoch)
        compile_model(decoder, optimizer, MaskedCrossEntropy(self.settings.label_smoothing))
        return decoder

    def generate_batches(self, epoch: int, first: int) -> Iterator[Any]:
        """Yield (inputs, targets) as `Batches` does."""
        yield from Batches(self._training, self.settings.batch_size, self.settings.seed, epoch, first)

    def train_step(self, model: Decoder, batch: Any, epoch: int) -> tuple[float, int]:
        """Train on (inputs, targets); return the loss and the number of captions."""
        inputs, targets = batch
        rate = self.settings.scheduled_sampling * epoch / max(1, self.epochs - 1)
        if rate:
            seed = (self.settings.seed, int(model.optimizer.iterations))
            logits = model.predict_on_batch(inputs)
            tokens = scheduled_sampling(logits, inputs["tokens"], rate, np.random.default_rng(seed))
            inputs = {**inputs, "tokens": tokens}
        return float(model.train_on_batch(pad_for_devices(inputs), pad_for_devices(targets))), len(targets)

    def _load_word_vectors(self, decoder: Decoder, path: Path, size: int) -> None:
        words = self.run.vocabulary.tokens
        known = set_word_vectors(decoder, words, read_word_vectors(path, size, set(words)))
        logger.info("%s: vectors for %d of %d words (%.0f%%)", path, known, len(words), 100 * known / len(words))


def scheduled_sampling(
    logits: np.ndarray, tokens: np.ndarray, rate: float, generator: np.random.Generator
) -> np.ndarray:
    """Replace a share of the tokens of captions with samples from the model.

    Args:
        logits: (N, T, V) logits of the token that follows each position.
        tokens: (N, T) token ids, `<start>` first. `<start>`, `<end>` and `<pad>` are never replaced.
        rate: probability of replacing a token, 0 to 1.
        generator: random generator for positions and samples.
    """
    rows, columns = np.nonzero((generator.random(tokens.shape) < rate) & (tokens != PAD) & (tokens != END))
    rows, columns = rows[columns > 0], columns[columns > 0]
    # The index of the largest logit plus Gumbel noise is a sample from the softmax.
    noisy = logits[rows, columns - 1].astype(np.float32)
    noisy += generator.gumbel(size=noisy.shape).astype(np.float32)
    mixed = tokens.copy()
    mixed[rows, columns] = noisy.argmax(axis=1)
    return mixed
