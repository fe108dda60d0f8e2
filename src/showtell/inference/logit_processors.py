"""Rules for the next token: each processor changes log-probabilities (N, V) in place before a token is chosen."""

from collections.abc import Callable

import numpy as np

from showtell.inference.search_options import SearchOptions
from showtell.vocabulary import END, PAD, START, UNK

# Takes log-probabilities (N, V), the tokens so far (N, 1 + length) with <start> first, and the options.
LogitProcessor = Callable[[np.ndarray, np.ndarray, SearchOptions], None]


def process_logits(log_probs: np.ndarray, tokens: np.ndarray, options: SearchOptions) -> None:
    """Apply all processors in order; a token that is not allowed gets the log-probability -inf."""
    for process in SAMPLING_PROCESSORS if options.strategy == "sample" else PROCESSORS:
        process(log_probs, tokens, options)


def _suppress_tokens(log_probs: np.ndarray, tokens: np.ndarray, options: SearchOptions) -> None:
    log_probs[:, [PAD, START, UNK, *options.suppress_tokens]] = -np.inf


def _enforce_min_length(log_probs: np.ndarray, tokens: np.ndarray, options: SearchOptions) -> None:
    if tokens.shape[1] <= options.min_length:
        log_probs[:, END] = -np.inf


def _prevent_repetition(log_probs: np.ndarray, tokens: np.ndarray, options: SearchOptions) -> None:
    size = options.no_repeat_ngram_size
    if 0 < size < tokens.shape[1]:
        ngrams = np.lib.stride_tricks.sliding_window_view(tokens, size, axis=1)
        context = tokens[:, None, tokens.shape[1] - size + 1 :]
        rows, positions = np.nonzero((ngrams[:, :, :-1] == context).all(axis=2))
        log_probs[rows, ngrams[rows, positions, -1]] = -np.inf


def _apply_temperature(log_probs: np.ndarray, tokens: np.ndarray, options: SearchOptions) -> None:
    log_probs /= options.temperature


def _keep_top_k(log_probs: np.ndarray, tokens: np.ndarray, options: SearchOptions) -> None:
    if 0 < options.top_k < log_probs.shape[1]:
        threshold = np.partition(log_probs, -options.top_k, axis=1)[:, -options.top_k]
        log_probs[log_probs < threshold[:, None]] = -np.inf


def _keep_top_p(log_probs: np.ndarray, tokens: np.ndarray, options: SearchOptions) -> None:
    if options.top_p < 1:
        ranked = np.sort(log_probs, axis=1)[:, ::-1]
        cumulative = np.cumsum(unnormalized_probs(ranked), axis=1, dtype=np.float64)
        last = (cumulative >= options.top_p * cumulative[:, -1:]).argmax(axis=1)
        log_probs[log_probs < np.take_along_axis(ranked, last[:, None], axis=1)] = -np.inf


def unnormalized_probs(log_probs: np.ndarray) -> np.ndarray:
    """Return the probabilities of each row up to a constant factor. A row with only -inf becomes zeros."""
    highest = log_probs.max(axis=1, keepdims=True)
    return np.exp(log_probs - np.where(highest > -np.inf, highest, 0))


PROCESSORS: tuple[LogitProcessor, ...] = (_suppress_tokens, _enforce_min_length, _prevent_repetition)
SAMPLING_PROCESSORS = (*PROCESSORS, _apply_temperature, _keep_top_k, _keep_top_p)
