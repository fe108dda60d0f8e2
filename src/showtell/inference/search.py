"""Decoding: turn the next-token scores of a model into captions.

Beam search, greedy search and sampling share one loop. They differ in the tokens that they propose for each row and in
the number of rows per image. The loop uses models only through the `DecoderStep` protocol.
"""

import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from showtell.errors import ConfigurationError, ShowtellError
from showtell.inference.decoder_step import DecoderState, DecoderStep
from showtell.inference.logit_processors import process_logits, unnormalized_probs
from showtell.inference.search_options import SearchOptions
from showtell.vocabulary import END, PAD, START, UNK


@dataclass(frozen=True)
class Hypothesis:
    """A decoded caption.

    Attributes:
        tokens: token ids, without `<start>` and `<end>`.
        log_prob: natural log-probability of the tokens, including `<end>` if `finished`.
        token_log_probs: the terms of `log_prob`, one per token and one for `<end>`.
        score: `log_prob` with the length penalty applied; captions are ranked by it.
        finished: False if truncated at `max_length`, or if no token was allowed.
        attention: (tokens, G) float32 attention weights of each token over the G grid cells; None if the model has no
            attention. Ignored by equality.
    """

    tokens: tuple[int, ...]
    log_prob: float
    token_log_probs: tuple[float, ...]
    score: float
    finished: bool
    attention: np.ndarray | None = field(default=None, compare=False, repr=False)


def search(step: DecoderStep, features: Any, options: SearchOptions | None = None) -> list[list[Hypothesis]]:
    """Decode captions for a batch of images.

    In beam search, `<end>` finishes a caption if it is among the `beam_size` best continuations of its image. The best
    `beam_size` other continuations stay in the beam. Decoding stops as soon as no partial caption can beat the worst of
    `beam_size` finished captions, so early stopping never changes the result.

    Args:
        step: the model.
        features: (N, G, D) float32, one row per image; or any other input of `step.start`.
        options: decoding options; `SearchOptions()` if None.

    Returns:
        For each image, between one and `n_best` captions, best first. Unfinished captions come last, and only if there
        are not enough finished ones.

    Raises:
        ConfigurationError: if `suppress_tokens` names an id outside the vocabulary.
        ShowtellError: if the model returns NaN or infinity.
    """
    options = options or SearchOptions()
    generator = np.random.default_rng(options.seed)
    width = options.beam_size if options.strategy == "beam" else 1
    samples = options.n_best if options.strategy == "sample" else 1

    state = step.start(features)
    captions = [_FinishedCaptions(width * samples, options) for _ in range(state.rows)]
    beams = _Beams.initial(np.repeat(np.arange(state.rows), samples), state)
    min_scores = np.full(len(beams.images), -np.inf)

    while len(beams.images):
        log_probs, state = step(beams.tokens[:, -1], beams.state)
        if beams.attention is None and state.attention is not None:
            beams.attention = np.empty((len(beams.tokens), 0, state.attention.shape[1]), np.float32)
        _check(log_probs, options)
        candidates = _rank(beams, *_propose(log_probs, beams.tokens, width, options, generator))

        scores = _score(candidates.totals, beams.tokens.shape[1], options)
        ends = (candidates.tokens == END) & (candidates.totals > -np.inf) & (scores > min_scores[:, None])
        ends[:, width:] = False
        for group, rank in np.argwhere(ends):
            row = candidates.parents[group, rank]
            captions[beams.images[group]].add(beams, row, end_log_prob=candidates.log_probs[group, rank])

        survivors = candidates.take(np.argsort(candidates.tokens == END, axis=1, kind="stable")[:, :width])
        survivors.totals[survivors.tokens == END] = -np.inf

        # An upper bound: the total log-probability only falls, and the longest caption has the largest divisor.
        best_possible = _score(survivors.totals.max(axis=1), options.max_length + 1, options)
        min_scores = np.array([captions[image].min_score for image in beams.images])
        done = (best_possible <= min_scores) | (beams.tokens.shape[1] > options.max_length)

        truncated = np.repeat(done & (min_scores == -np.inf), beams.group_size) & (beams.totals > -np.inf)
        truncated[candidates.parents[ends]] = False
        for row in np.flatnonzero(truncated):
            captions[beams.images[row // beams.group_size]].add(beams, row)

        beams = beams.advance(survivors, ~done, state)
        min_scores = min_scores[~done]

    return [finished.best() for finished in captions]


@dataclass
class _Candidates:
    """Continuations of all rows of a group by one token; arrays (groups, candidates), best first."""

    parents: np.ndarray
    tokens: np.ndarray
    log_probs: np.ndarray
    totals: np.ndarray

    def take(self, ranks: np.ndarray) -> "_Candidates":
        """Return the candidates at `ranks` (groups, K) of their groups."""
        arrays = (self.parents, self.tokens, self.log_probs, self.totals)
        return _Candidates(*(np.take_along_axis(array, ranks, axis=1) for array in arrays))


@dataclass
class _Beams:
    """Partial captions, one per row, in groups of equal size: one group per image, or per sample of an image.

    Attributes:
        images: (groups,) image of each group.
        tokens: (N, 1 + length) `<start>` and the tokens so far.
        log_probs: (N, length) log-probabilities of the tokens.
        totals: (N,) sums of `log_probs`; -inf marks an unused row in a group with fewer captions than rows.
        state: the state of the model; its image arrays have one row per group.
        attention: (N, length, G) float32 attention weights of the tokens; None if the model has no attention.
    """

    images: np.ndarray
    tokens: np.ndarray
    log_probs: np.ndarray
    totals: np.ndarray
    state: DecoderState
    attention: np.ndarray | None = None

    @classmethod
    def initial(cls, images: np.ndarray, state: DecoderState) -> "_Beams":
        """Make a group of one row for each entry of `images` (groups,), with the state of that image."""
        tokens = np.full((len(images), 1), START)
        return cls(images, tokens, np.empty((len(images), 0)), np.zeros(len(images)), state.gather(images, images))

    @property
    def group_size(self) -> int:
        return len(self.totals) // len(self.images)

    def advance(self, survivors: _Candidates, kept: np.ndarray, state: DecoderState) -> "_Beams":
        """Append the surviving tokens, and keep only the groups in `kept` (groups,) bool."""
        parents = survivors.parents[kept].ravel()
        state = state.gather(parents, None if kept.all() else np.flatnonzero(kept))
        attention = None
        if self.attention is not None and state.attention is not None:
            latest = state.attention[:, None].astype(np.float32, copy=False)
            attention = np.concatenate([self.attention[parents], latest], axis=1)
        return _Beams(
            self.images[kept],
            np.column_stack([self.tokens[parents], survivors.tokens[kept].ravel()]),
            np.column_stack([self.log_probs[parents], survivors.log_probs[kept].ravel()]),
            survivors.totals[kept].ravel(),
            state,
            attention,
        )


class _FinishedCaptions:
    """The complete captions of one image: the `size` best finished ones, and all truncated ones."""

    def __init__(self, size: int, options: SearchOptions):
        self.size = size
        self.options = options
        self.finished: list[tuple[float, int, Hypothesis]] = []  # a heap, the worst caption first
        self.truncated: list[Hypothesis] = []
        self.order = count(0, -1)  # breaks ties in favour of the older caption; hypotheses are never compared

    @property
    def min_score(self) -> float:
        """The score that a new caption must exceed to be kept."""
        return self.finished[0][0] if len(self.finished) == self.size else -np.inf

    def add(self, beams: _Beams, row: int, end_log_prob: float | None = None) -> None:
        """Add the caption of a row. `end_log_prob` is the log-probability of `<end>`; None for a truncated caption."""
        terms = tuple(map(float, beams.log_probs[row])) + (() if end_log_prob is None else (float(end_log_prob),))
        score = _score(sum(terms), max(len(terms), 1), self.options)
        tokens = tuple(beams.tokens[row, 1:].tolist())
        # A copy, so that the weights of the other rows can be freed.
        attention = None if beams.attention is None else beams.attention[row].copy()
        hypothesis = Hypothesis(tokens, sum(terms), terms, score, end_log_prob is not None, attention)
        if end_log_prob is None:
            self.truncated.append(hypothesis)
            return
        heapq.heappush(self.finished, (score, next(self.order), hypothesis))
        if len(self.finished) > self.size:
            heapq.heappop(self.finished)

    def best(self) -> list[Hypothesis]:
        """Return the `n_best` captions, best first, finished ones before truncated ones."""
        finished = [hypothesis for _, _, hypothesis in sorted(self.finished, reverse=True)]
        truncated = sorted(self.truncated, key=lambda hypothesis: -hypothesis.score)
        return (finished + truncated)[: self.options.n_best]


def _score(log_prob: Any, length: int, options: SearchOptions) -> Any:
    return log_prob / length**options.length_penalty


def _check(log_probs: np.ndarray, options: SearchOptions) -> None:
    if max(options.suppress_tokens, default=UNK) >= (size := log_probs.shape[1]):
        raise ConfigurationError(
            f"suppress_tokens must contain ids below the vocabulary size {size}, not {options.suppress_tokens}"
        )


def _check_best(log_probs: np.ndarray) -> None:
    """Raise ShowtellError if the highest log-probability of a row is NaN, as it is if any is, or infinite."""
    if not (log_probs < np.inf).all():
        raise ShowtellError("the model returned NaN or infinity: its weights or the image features are damaged")


def _propose(
    log_probs: np.ndarray, tokens: np.ndarray, width: int, options: SearchOptions, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the next tokens (N, K) that each row proposes, and their log-probabilities; `<pad>` means no token."""
    if options.strategy == "sample":
        processed = np.array(log_probs)
        _check_best(processed.max(axis=1))
        process_logits(processed, tokens, options)
        drawn = _sample(processed, generator)
        return drawn, np.take_along_axis(log_probs, drawn, axis=1)
    process_logits(log_probs, tokens, options)
    # The whole beam may come from one row, in addition to the <end> of that row.
    proposed, terms = _top_k(log_probs, 1 if options.strategy == "greedy" else width + 1)
    _check_best(terms[:, 0])
    return proposed, terms


def _rank(beams: _Beams, tokens: np.ndarray, log_probs: np.ndarray) -> _Candidates:
    """Return the candidates of all groups from proposed tokens (N, K) and their log-probabilities, best first."""
    totals = np.where(tokens == PAD, -np.inf, beams.totals[:, None] + log_probs)
    parents = np.broadcast_to(np.arange(len(tokens))[:, None], tokens.shape)
    candidates = _Candidates(*(array.reshape(len(beams.images), -1) for array in (parents, tokens, log_probs, totals)))
    return candidates.take(np.argsort(-candidates.totals, axis=1, kind="stable"))


def _top_k(log_probs: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k most likely tokens (N, k) of each row, best first, and their log-probabilities.

    Overwrites `log_probs`. A row with fewer than k allowed tokens is filled with `<pad>`.
    """
    # <pad> is id 0 and always suppressed; argmax returns 0 where all values are -inf. For small k, repeated argmax is
    # faster than argpartition.
    rows = np.arange(len(log_probs))
    tokens = np.empty((len(log_probs), k), dtype=np.int64)
    terms = np.empty(tokens.shape, log_probs.dtype)
    for rank in range(k):
        tokens[:, rank] = best = log_probs.argmax(axis=1)
        terms[:, rank] = log_probs[rows, best]
        log_probs[rows, best] = -np.inf
    return tokens, terms


def _sample(log_probs: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return one sampled token (N, 1) per row, `<pad>` if no token is allowed."""
    cumulative = np.cumsum(unnormalized_probs(log_probs), axis=1, dtype=np.float64)
    threshold = generator.random((len(cumulative), 1)) * cumulative[:, -1:]
    return (cumulative > threshold).argmax(axis=1)[:, None]
