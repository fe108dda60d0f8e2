"""The last phase: the decoder's own captions, rewarded by the metric that they will be measured with."""

from collections.abc import Iterator, Sequence
from sys import intern
from typing import Any

import keras
import numpy as np

from showtell.inference.search import Hypothesis, SearchOptions, search
from showtell.metrics.scores import CiderD, DocumentFrequencies, tokenize
from showtell.training.batches import TrainingSplit, batches_in
from showtell.training.decoders import Decoder, KerasDecoderStep
from showtell.training.devices import pad_for_devices
from showtell.training.phases import FrozenEncoder, best_decoder, compile_model
from showtell.training.run import Run
from showtell.vocabulary import END, PAD, SPECIAL_TOKENS, START

LEAST_REPEATED = 0.005
MOST_BLEU_LOST = 0.5


class SelfCritical(FrozenEncoder):
    """Self-critical sequence training (Rennie et al., 2017) on CIDEr-D.

    Captions are sampled for each image; each is compared with the mean of the others (Luo, 2020), and made likelier by
    as much as it is better. `<end>` counts as a word in the reward, or captions would lose their endings. Sampling and
    learning are without dropout, and samples need not keep the run's rules of searching, such as not to say two words
    twice: so what is rewarded is what the model itself says.

    An epoch that bought its CIDEr with BLEU-4, or with words said twice, is not kept, however high it is.

    Args:
        run: the run, in this phase's folder.
        before: the run in the folder of the phase before.
        training: captions and features.
    """

    def __init__(self, run: Run, before: Run, training: TrainingSplit):
        self.run = run
        self.settings = run.recipe.self_critical
        self.epochs = self.settings.self_critical_epochs
        self.steps_an_epoch = batches_in(len(training.images), self.settings.self_critical_images)
        self._before = before
        self._training = training
        # Each word is kept once: apart, those of all captions take seven times the memory.
        self._references = [
            [(*map(intern, tokenize(caption)), SPECIAL_TOKENS[END]) for caption in captions]
            for captions in training.references
        ]
        self._frequencies = DocumentFrequencies.from_references(self._references)
        self._step: KerasDecoderStep | None = None

    def new_model(self) -> Decoder:
        """Take the decoder of the phase before, without its dropout."""
        decoder = best_decoder(self._before, dropout=0.0)
        optimizer = keras.optimizers.Adam(
            self.settings.self_critical_learning_rate, global_clipnorm=self.run.recipe.training.clip_norm
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
        compile_model(decoder, optimizer, loss)
        return decoder

    def batches(self, epoch: int, first: int) -> Iterator[np.ndarray]:
        """Yield positions of images (N,)."""
        size = min(self.settings.self_critical_images, len(self._training.images))
        order = np.random.default_rng((self.run.recipe.training.seed, epoch)).permutation(len(self._training.images))
        yield from np.resize(order, (self.steps_an_epoch, size))[first:]

    def train_on(self, model: Decoder, batch: np.ndarray, epoch: int) -> tuple[float, int]:
        """Sample captions of the images, and make the better ones likelier; return the negative mean reward."""
        if self._step is None:
            self._step = KerasDecoderStep(model)  # kept, because every new one is compiled anew
        count = self.settings.samples_per_image
        features = self._training.features[self._training.image_rows[batch]].astype(np.float32)
        options = SearchOptions(
            strategy="sample",
            n_best=count,
            max_length=self.run.search_options.max_length,
            seed=self.run.recipe.training.seed + (int(model.optimizer.iterations) << 32),
        )
        samples = [caption for found in search(self._step, features, options) for caption in found]
        rewards = self._rewards(samples, np.repeat(batch, count)).reshape(-1, count)
        tokens, targets, real = sampled_batch(samples)
        inputs = {"features": np.repeat(features, count, axis=0), "tokens": tokens}
        advantages = (rewards - mean_of_others(rewards)).reshape(-1, 1)
        weights = advantages * real / real.sum()
        model.train_on_batch(
            pad_for_devices(inputs), pad_for_devices(targets), sample_weight=pad_for_devices(weights.astype(np.float32))
        )
        return -float(rewards.mean()), len(samples)

    def is_better(self, record: dict[str, Any], best: dict[str, Any]) -> bool:
        """Compare CIDEr, unless BLEU-4 fell or repetitions rose for it since the phase began."""
        return passes_reward_hacking_check(record, self.run.history()[0]) and super().is_better(record, best)

    def _rewards(self, samples: Sequence[Hypothesis], images: np.ndarray) -> np.ndarray:
        endings = [(SPECIAL_TOKENS[END],) if sample.finished else () for sample in samples]
        candidates = [
            (*tokenize(self.run.vocabulary.decode(sample.tokens)), *ending)
            for sample, ending in zip(samples, endings, strict=True)
        ]
        distinct, positions = np.unique(images, return_inverse=True)
        metric = CiderD([self._references[image] for image in distinct], self._frequencies)
        return metric.score(candidates, positions)


def mean_of_others(rewards: np.ndarray) -> np.ndarray:
    """Return for each sample (N, S) the mean reward of the other samples of its image."""
    return (rewards.sum(axis=1, keepdims=True) - rewards) / (rewards.shape[1] - 1)


def passes_reward_hacking_check(record: dict[str, Any], first: dict[str, Any]) -> bool:
    """Say whether an epoch's higher CIDEr means something.

    It does unless BLEU-4 is more than MOST_BLEU_LOST points lower than before the phase, or more captions repeat a
    bigram than before it and than LEAST_REPEATED. Held against the best epoch so far, each could lose as much again.

    Args:
        record: the epoch's validation.
        first: that of epoch 0, the model that the phase began with.
    """
    most_repeated = max(first["repeated_bigrams"], LEAST_REPEATED)
    return record["bleu_4"] >= first["bleu_4"] - MOST_BLEU_LOST and record["repeated_bigrams"] <= most_repeated


def sampled_batch(samples: Sequence[Hypothesis]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sampled captions as tokens (N, T), `<start>` first, targets (N, T), and which targets are real (N, T)."""
    width = max(len(sample.token_log_probs) for sample in samples)
    tokens = np.full((len(samples), width + 1), PAD, np.int32)
    tokens[:, 0] = START
    for row, sample in zip(tokens, samples, strict=True):
        said = [*sample.tokens, END] if sample.finished else sample.tokens
        row[1 : 1 + len(said)] = said
    return tokens[:, :-1], tokens[:, 1:], tokens[:, 1:] != PAD
