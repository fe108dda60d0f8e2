"""Decoding: from a model that scores the next word to whole captions.

Beam search, greedy search and sampling are one loop. They differ in the words that they propose for each row and in
how many rows an image may have; the loop knows a model only through the `Step` protocol.
"""

import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal, Protocol

import numpy as np

from showtell.errors import ConfigurationError, ShowtellError
from showtell.vocabulary import END, PAD, START, UNK

State = dict[str, np.ndarray]
MAX_BEAM_SIZE = 1000
MAX_LENGTH = 10_000


class DecoderStep(Protocol):
    """A model that scores the next word of many captions at a time, one caption a row.

    The state is a dict of at least one array; all have their rows on axis 0. It holds whatever the model must remember
    of a caption and of its image. Calls must not write into the state that they are given.

    An entry that a call hands on as the very same array belongs to the image: while all others have a row for each
    caption, it keeps one for each image. The captions of an image lie together, equally many for all images, so that
    caption row r belongs to image row r // (captions // images). So what is large, such as the cells of the image, is
    neither repeated nor moved about while the beam is.

    The entry "attention" (N, G), if there is one, holds the weights with which the cells of the image were looked at
    for the log-probabilities that came with it; a first state need not have it.
    """

    def start(self, features: Any) -> State:
        """Return the state before the first word, a row for each image, from features (N, G, D) float32."""

    def __call__(self, tokens: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Feed tokens (N,), the latest word of every row; return log-probabilities (N, V) and the new state.

        The log-probabilities are the caller's, who writes into them.
        """


@dataclass(frozen=True)
class SearchOptions:
    """How captions are sought. Lengths count words; `<start>` and `<end>` are no words.

    Attributes:
        strategy: "beam"; "greedy", the likeliest word at each step; or "sample", words drawn at random.
        beam_size: rows that an image may have in beam search.
        n_best: captions for an image; "beam" gives at most `beam_size`, "greedy" one, "sample" independent draws.
        max_length: a caption that has not ended after so many words is cut there, and is not `finished`.
        min_length: a caption does not end before so many words.
        length_penalty: alpha in score = log_prob / length ** alpha, where length counts the words and `<end>`; 0 for
            none, 1 for the mean (Wu et al. 2016, https://arxiv.org/abs/1609.08144, section 7, the simpler form).
        no_repeat_ngram_size: no run of so many words occurs twice in a caption; 0 for no such rule (Paulus et al. 2018,
            https://arxiv.org/abs/1705.04304, with 3).
        suppress_tokens: ids of words that are not to be used.
        temperature: of sampling; the log-probabilities are divided by it.
        top_k: sampling draws from so many of the likeliest words; 0 for all (Fan et al. 2018,
            https://arxiv.org/abs/1805.04833).
        top_p: sampling draws from the fewest likeliest words that hold this probability; 1 for all (Holtzman et al.
            2020, https://arxiv.org/abs/1904.09751). Words as likely as the last that top_k or top_p keeps stay too.
        seed: of sampling; None draws anew each time.

    Raises ConfigurationError for values that cannot work.
    """

    strategy: Literal["beam", "greedy", "sample"] = "beam"
    beam_size: int = 3
    n_best: int = 1
    max_length: int = 20
    min_length: int = 0
    length_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    suppress_tokens: tuple[int, ...] = ()
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        rules = [
            ("strategy", self.strategy in ("beam", "greedy", "sample"), 'must be "beam", "greedy" or "sample"'),
            ("beam_size", 1 <= self.beam_size <= MAX_BEAM_SIZE, f"must be 1 to {MAX_BEAM_SIZE}"),
            ("n_best", self.n_best >= 1, "must be 1 or more"),
            (
                "n_best",
                self.strategy != "beam" or self.n_best <= self.beam_size,
                f"must be at most beam_size, {self.beam_size}",
            ),
            ("n_best", self.strategy != "greedy" or self.n_best == 1, "must be 1 in greedy search"),
            ("max_length", 1 <= self.max_length <= MAX_LENGTH, f"must be 1 to {MAX_LENGTH}"),
            ("min_length", 0 <= self.min_length <= self.max_length, f"must be 0 to max_length, {self.max_length}"),
            ("length_penalty", 0 <= self.length_penalty <= 100, "must be 0 (none) to 100"),
            ("no_repeat_ngram_size", 0 <= self.no_repeat_ngram_size <= MAX_LENGTH, f"must be 0 (off) to {MAX_LENGTH}"),
            (
                "suppress_tokens",
                all(word > UNK for word in self.suppress_tokens),
                f"must hold ids of words, {UNK + 1} or more",
            ),
            ("temperature", 0 < self.temperature <= 100, "must be more than 0 and at most 100"),
            ("top_k", self.top_k >= 0, "must be 0 (off) or more"),
            ("top_p", 0 < self.top_p <= 1, "must be more than 0 and at most 1"),
            ("seed", self.seed is None or self.seed >= 0, "must be 0 or more"),
        ]
        for name, holds, rule in rules:
            if not holds:
                raise ConfigurationError(f"search option {name} {rule}, not {getattr(self, name)!r}")


@dataclass(frozen=True)
class Hypothesis:
    """A caption that a search found.

    Attributes:
        tokens: the ids of its words, without `<start>` and `<end>`.
        log_prob: the model's natural log-probability of the words and `<end>`; of the words alone if not `finished`.
        token_log_probs: the terms of `log_prob`, one for each word and one for `<end>`.
        score: `log_prob` under the length penalty; captions are ranked by it.
        finished: whether the model ended the caption; otherwise it was cut, at `max_length` or for want of a word.
        attention: (words, G) float32, the weights with which the image's cells were looked at for each of `tokens`;
            None if the model has no attention. No part of equality.
    """

    tokens: tuple[int, ...]
    log_prob: float
    token_log_probs: tuple[float, ...]
    score: float
    finished: bool
    attention: np.ndarray | None = field(default=None, compare=False, repr=False)


def search(step: DecoderStep, features: Any, options: SearchOptions | None = None) -> list[list[Hypothesis]]:
    """Seek captions for a batch of images.

    In beam search `<end>` finishes a row where it is among the `beam_size` best continuations of all rows of the image;
    the best `beam_size` other continuations live on. A search goes on until no live row could still score more than
    the worst of `beam_size` finished captions, so that stopping never changes the outcome.

    Args:
        step: the model.
        features: (N, G, D) float32, a row for each image, or whatever else `step.start` takes.
        options: how to seek; `SearchOptions()` if None.

    Returns:
        For each image at least one and at most `n_best` captions, the best first. Those that are not finished come
        last, and only for want of finished ones.

    Raises:
        ConfigurationError: a suppress_tokens word is not in the model's vocabulary.
        ShowtellError: the model returned NaN.
    """
    options = options or SearchOptions()
    generator = np.random.default_rng(options.seed)
    width = options.beam_size if options.strategy == "beam" else 1
    draws = options.n_best if options.strategy == "sample" else 1

    state = step.start(features)
    images = len(next(iter(state.values())))
    captions = [_FinishedCaptions(width * draws, options) for _ in range(images)]
    live = _Beams.initial(np.repeat(np.arange(images), draws), state)
    min_scores = np.full(len(live.images), -np.inf)

    while len(live.images):
        log_probs, state = step(live.tokens[:, -1], live.state)
        if live.attention is None and "attention" in state:
            live.attention = np.empty((len(live.tokens), 0, state["attention"].shape[1]), np.float32)
        _check(log_probs, options)
        if options.strategy == "sample":
            allowed = np.array(log_probs)
            _mask(allowed, live.tokens, options)
            words = _sample(allowed, generator)
            terms = np.take_along_axis(log_probs, words, axis=1)
        else:
            _mask(log_probs, live.tokens, options)
            # In a beam one row can fill every place, and its <end> comes on top.
            words, terms = _top_k(log_probs, 1 if options.strategy == "greedy" else width + 1)
        candidates = _ranked(live, words, terms)

        scores = _score(candidates.totals, live.tokens.shape[1], options)
        ends = (candidates.tokens == END) & (candidates.totals > -np.inf) & (scores > min_scores[:, None])
        ends[:, width:] = False
        for group, place in np.argwhere(ends):
            row = candidates.parents[group, place]
            captions[live.images[group]].add(live, row, end=candidates.log_probs[group, place])

        survivors = candidates.at(np.argsort(candidates.tokens == END, axis=1, kind="stable")[:, :width])
        survivors.totals[survivors.tokens == END] = -np.inf

        # Log-probabilities only fall and the penalty only divides by more, so no live row can score more than this.
        best_possible = _score(survivors.totals.max(axis=1), options.max_length + 1, options)
        min_scores = np.array([captions[image].min_score for image in live.images])
        done = (best_possible <= min_scores) | (live.tokens.shape[1] > options.max_length)

        cut = np.repeat(done & (min_scores == -np.inf), live.group_size) & (live.totals > -np.inf)
        cut[candidates.parents[ends]] = False
        for row in np.flatnonzero(cut):
            captions[live.images[row // live.group_size]].add(live, row)

        live = live.advance(survivors, ~done, state)
        min_scores = min_scores[~done]

    return [found.best() for found in captions]


@dataclass
class _Candidates:
    """The continuations of all rows of a group by one word; arrays (groups, candidates), the best first."""

    parents: np.ndarray
    tokens: np.ndarray
    log_probs: np.ndarray
    totals: np.ndarray

    def at(self, places: np.ndarray) -> "_Candidates":
        """Return the candidates at places (groups, any) of their groups."""
        arrays = (self.parents, self.tokens, self.log_probs, self.totals)
        return _Candidates(*(np.take_along_axis(array, places, axis=1) for array in arrays))


@dataclass
class _Beams:
    """The captions that are being written, one a row, in groups of equal size: one for each image, or for each draw.

    Attributes:
        images: (groups,) the image of each group.
        tokens: (N, 1 + words) `<start>` and the words so far.
        log_probs: (N, words) the model's log-probabilities of the words.
        totals: (N,) their sums; -inf for a dead row, which fills a group that has fewer captions than places.
        state: the model's state; what belongs to the image has a row for each group.
        attention: (N, words, G) float32, the weights with which the words were looked for; None before the first step,
            and for ever if the model has no attention.
    """

    images: np.ndarray
    tokens: np.ndarray
    log_probs: np.ndarray
    totals: np.ndarray
    state: State
    attention: np.ndarray | None = None

    @classmethod
    def initial(cls, images: np.ndarray, state: State) -> "_Beams":
        """Make a group of one row for each entry of images (groups,), with the state of that image."""
        tokens = np.full((len(images), 1), START)
        own_state = {name: leaf[images] for name, leaf in state.items()}
        return cls(images, tokens, np.empty((len(images), 0)), np.zeros(len(images)), own_state)

    @property
    def group_size(self) -> int:
        return len(self.totals) // len(self.images)

    def advance(self, survivors: _Candidates, kept: np.ndarray, state: State) -> "_Beams":
        """Return the rows of the groups kept (groups,) bool, each caption longer by a word."""
        parents = survivors.parents[kept].ravel()
        attention = None
        if self.attention is not None:
            latest = state["attention"][parents, None].astype(np.float32, copy=False)
            attention = np.concatenate([self.attention[parents], latest], axis=1)
        return _Beams(
            self.images[kept],
            np.column_stack([self.tokens[parents], survivors.tokens[kept].ravel()]),
            np.column_stack([self.log_probs[parents], survivors.log_probs[kept].ravel()]),
            survivors.totals[kept].ravel(),
            {name: self._leaf(leaf, name, parents, kept) for name, leaf in state.items()},
            attention,
        )

    def _leaf(self, leaf: np.ndarray, name: str, parents: np.ndarray, kept: np.ndarray) -> np.ndarray:
        if leaf is not self.state.get(name):
            return leaf[parents]
        return leaf if kept.all() else leaf[kept]


class _FinishedCaptions:
    """The captions of one image that are closed: the `size` best of the finished, and any that were cut."""

    def __init__(self, size: int, options: SearchOptions):
        self.size = size
        self.options = options
        self.finished: list[tuple[float, int, Hypothesis]] = []  # a heap, the worst on top
        self.cut: list[Hypothesis] = []
        self.ages = count(0, -1)  # of equal scores the older is the better, and hypotheses are never compared

    @property
    def min_score(self) -> float:
        """The score that a caption must exceed to be of use."""
        return self.finished[0][0] if len(self.finished) == self.size else -np.inf

    def add(self, rows: _Beams, row: int, end: float | None = None) -> None:
        """Close the caption of a row, by `<end>` of this log-probability; None if it is cut."""
        terms = tuple(map(float, rows.log_probs[row])) + (() if end is None else (float(end),))
        score = _score(sum(terms), max(len(terms), 1), self.options)
        # A copy, so that the weights of the other rows need not be kept.
        attention = None if rows.attention is None else rows.attention[row].copy()
        words = tuple(rows.tokens[row, 1:].tolist())
        hypothesis = Hypothesis(words, sum(terms), terms, score, end is not None, attention)
        if end is None:
            self.cut.append(hypothesis)
            return
        heapq.heappush(self.finished, (score, next(self.ages), hypothesis))
        if len(self.finished) > self.size:
            heapq.heappop(self.finished)

    def best(self) -> list[Hypothesis]:
        """Return the `n_best` captions, the best first, finished ones before others."""
        finished = [hypothesis for _, _, hypothesis in sorted(self.finished, reverse=True)]
        cut = sorted(self.cut, key=lambda hypothesis: -hypothesis.score)
        return (finished + cut)[: self.options.n_best]


def _score(log_prob: Any, length: int, options: SearchOptions) -> Any:
    return log_prob / length**options.length_penalty


def _check(log_probs: np.ndarray, options: SearchOptions) -> None:
    # A log-softmax spreads NaN over its whole row, so that one column tells.
    if np.isnan(log_probs[:, END]).any():
        raise ShowtellError("the model returned NaN for the next word; its weights or the image features are damaged")
    if max(options.suppress_tokens, default=UNK) >= (size := log_probs.shape[1]):
        raise ConfigurationError(
            f"suppress_tokens must hold ids below {size}, the model's words, not {options.suppress_tokens}"
        )


def _ranked(rows: _Beams, words: np.ndarray, log_probs: np.ndarray) -> _Candidates:
    """Return the candidates of all groups from words (N, any) and their log-probabilities; <pad> stands for none."""
    totals = np.where(words == PAD, -np.inf, rows.totals[:, None] + log_probs)
    parents = np.broadcast_to(np.arange(len(words))[:, None], words.shape)
    candidates = _Candidates(*(array.reshape(len(rows.images), -1) for array in (parents, words, log_probs, totals)))
    return candidates.at(np.argsort(-candidates.totals, axis=1, kind="stable"))


def _mask(log_probs: np.ndarray, tokens: np.ndarray, options: SearchOptions) -> None:
    """Set log-probabilities (N, V) to -inf for all words that may not follow tokens (N, 1 + words)."""
    for link in _SAMPLING_CHAIN if options.strategy == "sample" else _CHAIN:
        link(log_probs, tokens, options)


def _forbid_words(log_probs: np.ndarray, tokens: np.ndarray, options: SearchOptions) -> None:
    log_probs[:, [PAD, START, UNK, *options.suppress_tokens]] = -np.inf


def _forbid_early_end(log_probs: np.ndarray, tokens: np.ndarray, options: SearchOptions) -> None:
    if tokens.shape[1] <= options.min_length:
        log_probs[:, END] = -np.inf


def _forbid_repetition(log_probs: np.ndarray, tokens: np.ndarray, options: SearchOptions) -> None:
    size = options.no_repeat_ngram_size
    if 0 < size < tokens.shape[1]:
        ngrams = np.lib.stride_tricks.sliding_window_view(tokens, size, axis=1)
        latest = tokens[:, None, tokens.shape[1] - size + 1 :]
        rows, places = np.nonzero((ngrams[:, :, :-1] == latest).all(axis=2))
        log_probs[rows, ngrams[rows, places, -1]] = -np.inf


def _apply_temperature(log_probs: np.ndarray, tokens: np.ndarray, options: SearchOptions) -> None:
    log_probs /= options.temperature


def _keep_top_k(log_probs: np.ndarray, tokens: np.ndarray, options: SearchOptions) -> None:
    if 0 < options.top_k < log_probs.shape[1]:
        least = np.partition(log_probs, -options.top_k, axis=1)[:, -options.top_k]
        log_probs[log_probs < least[:, None]] = -np.inf


def _keep_top_p(log_probs: np.ndarray, tokens: np.ndarray, options: SearchOptions) -> None:
    if options.top_p < 1:
        ranked = np.sort(log_probs, axis=1)[:, ::-1]
        held = np.cumsum(_weights(ranked), axis=1, dtype=np.float64)
        last = (held >= options.top_p * held[:, -1:]).argmax(axis=1)
        log_probs[log_probs < np.take_along_axis(ranked, last[:, None], axis=1)] = -np.inf


_CHAIN = (_forbid_words, _forbid_early_end, _forbid_repetition)
_SAMPLING_CHAIN = (*_CHAIN, _apply_temperature, _keep_top_k, _keep_top_p)


def _top_k(log_probs: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the likeliest words (N, number) of every row, the best first, and their log-probabilities; overwrites.

    Where no word is left there is <pad>.
    """
    # <pad> is always masked, and argmax gives 0 where all is -inf. For so few words its passes beat an argpartition.
    rows = np.arange(len(log_probs))
    words = np.empty((len(log_probs), number), dtype=np.int64)
    terms = np.empty(words.shape, log_probs.dtype)
    for place in range(number):
        words[:, place] = best = log_probs.argmax(axis=1)
        terms[:, place] = log_probs[rows, best]
        log_probs[rows, best] = -np.inf
    return words, terms


def _sample(log_probs: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return a word (N, 1) drawn for every row, <pad> where none is left."""
    held = np.cumsum(_weights(log_probs), axis=1, dtype=np.float64)
    threshold = generator.random((len(held), 1)) * held[:, -1:]
    return (held > threshold).argmax(axis=1)[:, None]


def _weights(log_probs: np.ndarray) -> np.ndarray:
    """Return the probabilities up to a factor for each row; all are 0 in a row of -inf only."""
    highest = log_probs.max(axis=1, keepdims=True)
    return np.exp(log_probs - np.where(highest > -np.inf, highest, 0))
