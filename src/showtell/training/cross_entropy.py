"""The first phase: the decoder learns to continue people's captions, on features of a frozen encoder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from showtell.recipe import TrainingConfig
from showtell.training.batches import Batches, TrainingSplit, batches_in
from showtell.training.decoders import Decoder, MaskedCrossEntropy, new_decoder, set_word_vectors
from showtell.training.devices import pad_for_devices
from showtell.training.phases import FrozenEncoder, compile_model, make_optimizer
from showtell.training.run import START_WEIGHTS, Run
from showtell.training.warm_start import load_extended_weights
from showtell.training.word_vectors import read_word_vectors
from showtell.vocabulary import END, PAD


class CrossEntropy(FrozenEncoder):
    """Teacher forcing with cross-entropy, or with scheduled sampling in a growing share.

    Scheduled sampling (Bengio et al., 2015) is in the two-pass form of Mihaylova and Martins (2019): a first pass reads
    the caption and draws a word for every position; the second, which is trained, reads a share of these instead of the
    caption's own. So both passes go over all positions at once.
    """

    def __init__(self, run: Run, training: TrainingSplit, say: Callable[[str], None]):
        self.run = run
        self.settings: TrainingConfig = run.recipe.training
        self.epochs = self.settings.epochs
        self.steps_an_epoch = batches_in(len(training.captions), self.settings.batch_size)
        self._training = training
        self._say = say

    def new_model(self) -> Decoder:
        """Make the recipe's decoder, untrained, or with the weights that the run was started from."""
        model = self.run.recipe.model
        decoder = new_decoder(model, len(self.run.vocabulary), self._training.features.shape[2])
        if model.word_vectors:
            words = self.run.vocabulary.tokens
            known = set_word_vectors(
                decoder, words, read_word_vectors(Path(model.word_vectors), model.embedding_size, set(words))
            )
            self._say(f"{model.word_vectors}: vectors for {known} of {len(words)} words ({known / len(words):.0%})")
        if self.run.sources.start_from:
            with np.load(self.run.folder / START_WEIGHTS) as weights:
                new = load_extended_weights(decoder, dict(weights))
            self._say(f"starting from {self.run.sources.start_from}, with {new} new words")
        optimizer = make_optimizer(self.settings, self.steps_an_epoch)
        compile_model(decoder, optimizer, MaskedCrossEntropy(self.settings.label_smoothing))
        return decoder

    def batches(self, epoch: int, first: int) -> Iterator[Any]:
        """Yield inputs and targets."""
        yield from Batches(self._training, self.settings.batch_size, self.settings.seed, epoch, first)

    def train_on(self, model: Decoder, batch: Any, epoch: int) -> tuple[float, int]:
        """Take a step on inputs and targets."""
        inputs, targets = batch
        share = self.settings.scheduled_sampling * epoch / max(1, self.epochs - 1)
        if share:
            seed = (self.settings.seed, int(model.optimizer.iterations))
            mixed = scheduled_sampling(
                model.predict_on_batch(inputs), inputs["tokens"], share, np.random.default_rng(seed)
            )
            inputs = {**inputs, "tokens": mixed}
        return float(model.train_on_batch(pad_for_devices(inputs), pad_for_devices(targets))), len(targets)


def scheduled_sampling(
    logits: np.ndarray, tokens: np.ndarray, share: float, generator: np.random.Generator
) -> np.ndarray:
    """Replace a share of the words of captions by words that the model would have said there.

    Args:
        logits: (N, T, V) what follows each token.
        tokens: (N, T) `<start>` first; it, `<end>` and `<pad>` are never replaced.
        share: the chance of each word to be replaced, 0 to 1.
        generator: draws the places, and the words from the model's probabilities.
    """
    rows, places = np.nonzero((generator.random(tokens.shape) < share) & (tokens != PAD) & (tokens != END))
    rows, places = rows[places > 0], places[places > 0]
    # The largest logit after Gumbel noise is a draw from the softmax.
    noisy = logits[rows, places - 1].astype(np.float32)
    noisy += generator.gumbel(size=noisy.shape).astype(np.float32)
    mixed = tokens.copy()
    mixed[rows, places] = noisy.argmax(axis=1)
    return mixed
