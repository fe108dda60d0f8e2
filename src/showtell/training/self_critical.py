"""The third phase: train the decoder on its own captions, rewarded by CIDEr-D."""

from collections.abc import Iterator, Sequence
from sys import intern
from typing import Any

import keras
import numpy as np

from showtell.inference.search import Hypothesis, search
from showtell.inference.search_options import SearchOptions
from showtell.metrics import CiderD, DocumentFrequencies, tokenize
from showtell.training.batches import TrainingSplit, count_batches
from showtell.training.decoders import Decoder, KerasDecoderStep
from showtell.training.devices import pad_for_devices
from showtell.training.phases import FrozenEncoderPhase, compile_model, load_best_decoder
from showtell.training.run import Run
from showtell.vocabulary import END, PAD, SPECIAL_TOKENS, START

# Limits of `passes_reward_hacking_check`: a share of captions, and BLEU-4 points.
MAX_REPEATED_BIGRAMS = 0.005
MAX_BLEU_LOSS = 0.5


class SelfCritical(FrozenEncoderPhase):
    """Self-critical sequence training (Rennie et al. 2017, https://arxiv.org/abs/1612.00563) on CIDEr-D.

    Several captions are sampled for each image. The baseline of each is the mean reward of the others (Luo 2020,
    https://arxiv.org/abs/2003.09971). `<end>` counts as a word in the reward; otherwise the model would learn to omit
    the end of sentences. Sampling and training use no dropout. Sampling ignores the search options of the run, such as
    `no_repeat_ngram_size`, so the reward is for captions of the unrestricted model.

    An epoch with higher CIDEr is not kept if it fails `passes_reward_hacking_check`.

    Args:
        run: the run, with the folder of this phase.
        previous: the run, with the folder of the previous phase.
        training: captions and features.
    """

    def __init__(self, run: Run, previous: Run, training: TrainingSplit):
        self.run = run
        self.settings = run.recipe.self_critical
        self.epochs = self.settings.self_critical_epochs
        self.steps_per_epoch = count_batches(len(training.images), self.settings.self_critical_images)
        self._previous = previous
        self._training = training
        # Interned words reduce memory use to a seventh.
        self._references = [
            [(*map(intern, tokenize(caption)), SPECIAL_TOKENS[END]) for caption in captions]
            for captions in training.references
        ]
        self._frequencies = DocumentFrequencies.from_references(self._references)
        self._decoder_step: KerasDecoderStep | None = None

    def build_model(self) -> Decoder:
        """Load the decoder of the previous phase, without dropout."""
        decoder = load_best_decoder(self._previous, dropout=0.0)
        optimizer = keras.optimizers.Adam(
            self.settings.self_critical_learning_rate, global_clipnorm=self.run.recipe.training.clip_norm
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
        compile_model(decoder, optimizer, loss)
        return decoder

    def generate_batches(self, epoch: int, first: int) -> Iterator[np.ndarray]:
        """Yield the positions of images (N,)."""
        batch_size = min(self.settings.self_critical_images, len(self._training.images))
        generator = np.random.default_rng((self.run.recipe.training.seed, epoch))
        order = generator.permutation(len(self._training.images))
        yield from np.resize(order, (self.steps_per_epoch, batch_size))[first:]

    def train_step(self, model: Decoder, batch: np.ndarray, epoch: int) -> tuple[float, int]:
        """Train on sampled captions of the images; return the negative mean reward and the number of captions."""
        if self._decoder_step is None:
            self._decoder_step = KerasDecoderStep(model)  # kept, as a new one would be compiled again
        count = self.settings.samples_per_image
        features = self._training.features[self._training.image_rows[batch]].astype(np.float32)
        options = SearchOptions(
            strategy="sample",
            n_best=count,
            max_length=self.run.search_options.max_length,
            seed=self.run.recipe.training.seed + (int(model.optimizer.iterations) << 32),
        )
        samples = [caption for captions in search(self._decoder_step, features, options) for caption in captions]
        rewards = self._compute_rewards(samples, np.repeat(batch, count)).reshape(-1, count)
        tokens, targets, mask = pad_samples(samples)
        inputs = {"features": np.repeat(features, count, axis=0), "tokens": tokens}
        advantages = (rewards - leave_one_out_mean(rewards)).reshape(-1, 1)
        weights = (advantages * mask / mask.sum()).astype(np.float32)
        model.train_on_batch(pad_for_devices(inputs), pad_for_devices(targets), sample_weight=pad_for_devices(weights))
        return -float(rewards.mean()), len(samples)

    def is_better(self, record: dict[str, Any], best: dict[str, Any]) -> bool:
        """Compare CIDEr, then the validation loss, if the epoch passes the reward hacking check."""
        start = self.run.read_history()[0]
        return passes_reward_hacking_check(record, start) and super().is_better(record, best)

    def _compute_rewards(self, samples: Sequence[Hypothesis], images: np.ndarray) -> np.ndarray:
        endings = [(SPECIAL_TOKENS[END],) if sample.finished else () for sample in samples]
        candidates = [
            (*tokenize(self.run.vocabulary.decode(sample.tokens)), *ending)
            for sample, ending in zip(samples, endings, strict=True)
        ]
        distinct, positions = np.unique(images, return_inverse=True)
        metric = CiderD([self._references[image] for image in distinct], self._frequencies)
        return metric.score(candidates, positions)


def leave_one_out_mean(rewards: np.ndarray) -> np.ndarray:
    """Return for each sample (N, S) the mean reward of the other samples of its image."""
    return (rewards.sum(axis=1, keepdims=True) - rewards) / (rewards.shape[1] - 1)


def passes_reward_hacking_check(record: dict[str, Any], start: dict[str, Any]) -> bool:
    """Return whether an epoch keeps BLEU-4 and does not repeat more bigrams, so that its CIDEr can be trusted.

    BLEU-4 may be at most MAX_BLEU_LOSS points below the start of the phase. The share of captions with a repeated
    bigram may not exceed that of the start or MAX_REPEATED_BIGRAMS, whichever is larger. The comparison is with the
    start and not with the best epoch, so that losses do not accumulate over the epochs.

    Args:
        record: the record of the epoch.
        start: the record of epoch 0, the model before the phase.
    """
    max_repeated = max(start["repeated_bigrams"], MAX_REPEATED_BIGRAMS)
    return record["bleu_4"] >= start["bleu_4"] - MAX_BLEU_LOSS and record["repeated_bigrams"] <= max_repeated


def pad_samples(samples: Sequence[Hypothesis]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sampled captions as padded arrays.

    Returns:
        Input tokens (N, T), `<start>` first; targets (N, T); and a mask (N, T), True where the target is not padding.
    """
    width = max(len(sample.token_log_probs) for sample in samples)
    tokens = np.full((len(samples), width + 1), PAD, np.int32)
    tokens[:, 0] = START
    for row, sample in zip(tokens, samples, strict=True):
        generated = [*sample.tokens, END] if sample.finished else sample.tokens
        row[1 : 1 + len(generated)] = generated
    return tokens[:, :-1], tokens[:, 1:], tokens[:, 1:] != PAD
