"""Decoding is tested with small models whose captions and probabilities are known in full."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.errors import ConfigurationError, MismatchError, ShowtellError
from showtell.inference.decoder_step import DecoderState
from showtell.inference.ensemble import Ensemble
from showtell.inference.search import Hypothesis, search
from showtell.inference.search_options import SearchOptions
from showtell.vocabulary import END, PAD, START, UNK

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

A, B, C, D = range(4, 8)


class Sentences:
    """A model with a known probability of every sentence of an image. The state of a row holds the tokens fed so far.

    A state in the wrong row therefore gives wrong words and probabilities. Features (N, 1, 1) hold the index of the
    image's set of sentences.
    """

    def __init__(self, *sets: dict[str, float]):
        self.sets = [{tuple(A + "abcd".index(letter) for letter in text): p for text, p in s.items()} for s in sets]
        self.fed: list[np.ndarray] = []

    def start(self, features):
        sets = features[:, 0, 0].astype(int)
        return DecoderState({"set": sets}, {"prefix": np.empty((len(features), 0), dtype=int)})

    def __call__(self, tokens, state):
        self.fed.append(tokens.copy())
        prefixes = np.column_stack([state.caption["prefix"], tokens])
        probabilities = np.zeros((len(tokens), 8), dtype=np.float32)
        for row, (number, (_, *prefix)) in enumerate(zip(self.sets_of(state), prefixes.tolist(), strict=True)):
            for sentence, probability in self.sets[number].items():
                if sentence[: len(prefix)] == tuple(prefix):
                    probabilities[row, (*sentence, END)[len(prefix)]] += probability
        lost = probabilities.sum(axis=1) == 0
        probabilities[lost, END] = 1
        with np.errstate(divide="ignore"):
            log_probs = np.log(probabilities / probabilities.sum(axis=1, keepdims=True))
        return log_probs, state.advanced({"prefix": prefixes})

    def sets_of(self, state):
        """Return the index of the sentence set of each caption."""
        return np.repeat(state.image["set"], len(state.caption["prefix"]) // len(state.image["set"]))


class Recurrent:
    """A small recurrent network with random weights: probabilities depend on the image and all previous words."""

    def __init__(self, vocabulary: int = 8, seed: int = 0, sharpness: float = 2.0):
        generator = np.random.default_rng(seed)
        self.inward = generator.normal(size=(vocabulary, 6))
        self.across = generator.normal(size=(6, 6))
        self.outward = generator.normal(size=(6, vocabulary)) * sharpness

    def start(self, features):
        return DecoderState(caption={"hidden": np.tanh(features[:, 0])})

    def __call__(self, tokens, state):
        hidden = np.tanh(self.inward[tokens] + state.caption["hidden"] @ self.across)
        logits = hidden @ self.outward
        logits -= logits.max(axis=1, keepdims=True)
        log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return log_probs.astype(np.float32), state.advanced({"hidden": hidden})


class Looking(Sentences):
    """A model whose attention (N, G) encodes its input: each cell has the image's set and all previous words as digits.

    The expected weights of a word therefore follow from the words before it.
    """

    def __init__(self, *sets: dict[str, float], cells: int = 2, from_the_start: bool = False):
        super().__init__(*sets)
        self.cells, self.from_the_start = cells, from_the_start

    def start(self, features):
        unused = np.full((len(features), self.cells), np.nan) if self.from_the_start else None
        return replace(super().start(features), attention=unused)

    def __call__(self, tokens, state):
        log_probs, state = super().__call__(tokens, state)
        told = [
            number_of(number, prefix)
            for number, (_, *prefix) in zip(self.sets_of(state), state.caption["prefix"], strict=True)
        ]
        return log_probs, replace(state, attention=np.repeat(np.array(told, float)[:, None], self.cells, axis=1))


def number_of(image_set: int, words) -> int:
    """Return a set and the words after it as the digits of one number, which float32 represents exactly."""
    return int("".join(map(str, (image_set + 1, *words))))


def assert_attention_follows(hypothesis: Hypothesis, image_set: int, cells: int = 2) -> None:
    expected = [number_of(image_set, hypothesis.tokens[:place]) for place in range(len(hypothesis.tokens))]
    assert hypothesis.attention.shape == (len(expected), cells) and hypothesis.attention.dtype == np.float32
    assert (hypothesis.attention == np.array(expected)[:, None]).all()


def images(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.float32).reshape(-1, 1, 1)


def random_images(number: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(number, 1, 6)).astype(np.float32)


def text(hypothesis: Hypothesis) -> str:
    return "".join("abcd"[token - A] for token in hypothesis.tokens)


def texts(results: list[list[Hypothesis]]) -> list[list[str]]:
    return [[text(hypothesis) for hypothesis in line] for line in results]


def assert_same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [(h.tokens, h.finished) for h in found] == [(h.tokens, h.finished) for h in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-5)
        assert one.token_log_probs == pytest.approx(other.token_log_probs, abs=1e-5)


# "a" leads with 0.6, but then splits three ways. The most likely sentence, "bc", starts with "b".
GARDEN_PATH = {"ab": 0.21, "ac": 0.2, "ad": 0.19, "bc": 0.36, "bd": 0.04}


def test_greedy_search_chooses_the_most_likely_word_at_each_step():
    [[found]] = search(Sentences(GARDEN_PATH), images(0), SearchOptions(strategy="greedy"))
    assert found.tokens == (A, B)
    assert found.finished
    # P(a) = 0.6, P(b | a) = 0.21 / 0.6 = 0.35, P(<end> | ab) = 1.
    assert found.token_log_probs == pytest.approx([math.log(0.6), math.log(0.35), 0], abs=1e-6)
    assert found.log_prob == found.score == pytest.approx(math.log(0.21), abs=1e-6)


def test_beam_search_finds_captions_that_greedy_search_misses():
    [found] = search(Sentences(GARDEN_PATH), images(0), SearchOptions(beam_size=2, n_best=2))
    assert texts([found]) == [["bc", "ab"]]
    assert [hypothesis.log_prob for hypothesis in found] == pytest.approx([math.log(0.36), math.log(0.21)], abs=1e-6)


def test_each_beam_keeps_its_own_state():
    # The order of the beams changes at every step, and beams branch off from others.
    sentences = {"abcd": 0.2, "abdc": 0.04, "bacd": 0.25, "badc": 0.07, "cabd": 0.08, "cbad": 0.3, "d": 0.06}
    mirrored = {sentence[::-1]: probability for sentence, probability in sentences.items()}
    options = SearchOptions(beam_size=7, n_best=7)
    results = search(Sentences(sentences, mirrored), images(1, 0, 1), options)
    for found, known in zip(results, (mirrored, sentences, mirrored), strict=True):
        assert [text(hypothesis) for hypothesis in found] == sorted(known, key=known.__getitem__, reverse=True)
        assert [math.exp(h.log_prob) for h in found] == pytest.approx(sorted(known.values(), reverse=True), abs=1e-6)


@pytest.mark.parametrize("from_the_start", [False, True])
def test_attention_weights_stay_with_their_word_and_beam(from_the_start):
    # Sentences end after 1, 3 and 4 words, and the order of the beams changes at every step.
    sentences = {"abcd": 0.2, "abdc": 0.04, "bacd": 0.25, "badc": 0.07, "cab": 0.08, "cbad": 0.3, "d": 0.06}
    mirrored = {sentence[::-1]: probability for sentence, probability in sentences.items()}
    step = Looking(sentences, mirrored, from_the_start=from_the_start)
    for size in (3, 7):
        results = search(step, images(1, 0, 1), SearchOptions(beam_size=size, n_best=size))
        assert [len(found) for found in results] == [size] * 3
        for found, image_set in zip(results, (1, 0, 1), strict=True):
            for hypothesis in found:
                assert_attention_follows(hypothesis, image_set)


def test_attention_equals_a_worked_example():
    [[found]] = search(Looking(GARDEN_PATH), images(0), SearchOptions(beam_size=2))
    # Set 0 is encoded as 1. The row of "b" (5) has no previous word, the row of "c" has "b", and <end> has no row.
    assert text(found) == "bc"
    assert found.attention.tolist() == [[1, 1], [15, 15]]


def test_attention_of_truncated_sampled_and_empty_captions():
    step = Looking({"abc": 0.6, "abd": 0.3, "d": 0.1}, {"": 0.7, "a": 0.3})
    [one, two] = search(step, images(0, 1), SearchOptions(beam_size=2, n_best=2, max_length=2))
    assert [(text(h), h.finished) for h in one] == [("d", True), ("ab", False)]
    assert [text(h) for h in two] == ["", "a"] and two[0].attention.shape == (0, 2)
    drawn = search(step, images(0, 1), SearchOptions(strategy="sample", n_best=20, seed=0))
    assert len({text(h) for found in drawn for h in found}) > 3
    greedy = search(step, images(0, 1), SearchOptions(strategy="greedy"))
    for results in ((one, two), drawn, greedy):
        for image_set, found in enumerate(results):
            for hypothesis in found:
                assert_attention_follows(hypothesis, image_set)


def test_attention_is_none_without_an_attention_model_and_ignored_by_equality():
    [[without]] = search(Sentences(GARDEN_PATH), images(0))
    [[with_it]] = search(Looking(GARDEN_PATH), images(0))
    assert without.attention is None and with_it.attention is not None
    assert without == with_it and hash(without) == hash(with_it)


def test_ensemble_attention_is_the_mean_over_the_models_with_attention():
    # With the sets 0 and 2, the first digit of the second model's weights is greater by 2.
    one, three = {"ab": 0.6, "c": 0.4}, [{"d": 1.0}, {"d": 1.0}, {"ab": 0.7, "c": 0.3}]
    features = [images(0), images(2), images(0)]
    [[found]] = search(Ensemble([Looking(one), Looking(*three), Sentences(one)]), features)
    assert text(found) == "ab"
    assert found.attention.tolist() == [[2, 2], [24, 24]]
    [[found]] = search(Ensemble([Looking(one), Looking(*three, cells=4), Sentences(one)]), features)
    assert text(found) == "ab" and found.attention is None


def test_length_penalty_prefers_the_longer_sentence():
    # The captions have four and two log-probabilities, including <end>: log(0.4) / 4 > log(0.6) / 2.
    step = Sentences({"a": 0.6, "bcd": 0.4})
    plain, penalised = (
        search(step, images(0), SearchOptions(beam_size=2, n_best=2, length_penalty=alpha))[0] for alpha in (0.0, 1.0)
    )
    assert texts([plain, penalised]) == [["a", "bcd"], ["bcd", "a"]]
    assert penalised[0].log_prob == pytest.approx(math.log(0.4), abs=1e-6)
    assert [h.score for h in penalised] == pytest.approx([math.log(0.4) / 4, math.log(0.6) / 2], abs=1e-6)


def test_a_caption_is_truncated_at_max_length():
    step = Sentences({"abcd": 1.0})
    [[whole]] = search(step, images(0), SearchOptions(max_length=4))
    assert (text(whole), whole.finished) == ("abcd", True)
    for strategy in ("beam", "greedy", "sample"):
        [[cut]] = search(step, images(0), SearchOptions(strategy=strategy, max_length=3))
        assert (text(cut), cut.finished, len(cut.token_log_probs)) == ("abc", False, 3)


def test_truncated_captions_are_returned_only_if_there_are_too_few_finished_ones():
    step = Sentences({"abc": 0.6, "abd": 0.3, "d": 0.1})
    options = SearchOptions(beam_size=2, max_length=2)
    [one] = search(step, images(0), options)
    assert [(text(h), h.finished) for h in one] == [("d", True)]
    [two] = search(step, images(0), replace(options, n_best=2))
    assert [(text(h), h.finished) for h in two] == [("d", True), ("ab", False)]


def test_a_caption_is_truncated_if_no_word_is_allowed():
    step = Sentences({"abc": 1.0})
    for strategy in ("beam", "greedy", "sample"):
        options = SearchOptions(strategy=strategy, suppress_tokens=(B,), length_penalty=1.0)
        [[cut]] = search(step, images(0), options)
        assert (text(cut), cut.finished) == ("a", False)
        [[empty]] = search(step, images(0), replace(options, suppress_tokens=(A,)))
        assert empty == Hypothesis((), 0.0, (), 0.0, False)


def test_a_caption_may_be_empty():
    [[found]] = search(Sentences({"": 0.7, "a": 0.3}), images(0), SearchOptions(length_penalty=1.0))
    assert found.tokens == ()
    assert found.score == pytest.approx(math.log(0.7), abs=1e-6)


def test_finished_captions_and_images_take_no_rows():
    step = Sentences({"": 0.3, "a": 0.3, "bcd": 0.25, "cd": 0.15}, {"d": 1.0})
    results = search(step, images(0, 1), SearchOptions(beam_size=3, n_best=3))
    assert texts(results) == [["", "a", "bcd"], ["d"]]
    assert [h.log_prob for h in results[0]] == pytest.approx(np.log([0.3, 0.3, 0.25]), abs=1e-6)
    # First one row per image, then three. The second image is dropped when its only sentence is finished.
    assert [len(tokens) for tokens in step.fed] == [2, 6, 3, 3]
    # The second call feeds "a", "b" and "c" for the first image. Finished captions are not fed again.
    assert sorted(step.fed[1][:3]) == [A, B, C]
    assert not any(END in tokens[:3] for tokens in step.fed[:3])


def test_search_stops_when_no_partial_caption_can_win():
    step = Sentences({"": 0.9, "abcd": 0.08, "bcda": 0.02})
    [[found]] = search(step, images(0), SearchOptions(beam_size=1))
    assert text(found) == ""
    assert len(step.fed) == 1
    # With alpha = 2 the search must go on: log(0.08) / 5 ** 2 = -0.101 beats log(0.9) / 1 ** 2 = -0.105.
    [[found]] = search(step, images(0), SearchOptions(beam_size=1, length_penalty=2.0))
    assert text(found) == "abcd"
    [[found]] = search(step, images(0), SearchOptions(strategy="greedy", length_penalty=2.0))
    assert text(found) == ""


def brute_force(step, features: np.ndarray, options: SearchOptions) -> list[Hypothesis]:
    """Score all captions that the options allow, for one image, by feeding each to the model."""
    found = []
    for length in range(options.max_length + 1):
        words = [word for word in (A, B, C) if word not in options.suppress_tokens]
        for caption in product(words, repeat=length):
            n = options.no_repeat_ngram_size
            ngrams = [caption[i : i + n] for i in range(length - n + 1)] if n else []
            if len(set(ngrams)) < len(ngrams):
                continue
            state, terms = step.start(features), []
            for fed, wanted in zip((START, *caption), (*caption, END), strict=True):
                log_probs, state = step(np.array([fed]), state)
                terms.append(float(log_probs[0, wanted]))
            if length >= options.min_length:
                score = sum(terms) / len(terms) ** options.length_penalty
                found.append(Hypothesis(caption, sum(terms), tuple(terms), score, True))
    return sorted(found, key=lambda hypothesis: -hypothesis.score)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    alpha=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    lengths=st.tuples(st.integers(0, 3), st.integers(1, 3)).filter(lambda pair: pair[0] <= pair[1]),
    no_repeat=st.integers(0, 2),
    suppress_tokens=st.sampled_from([(), (B,)]),
)
def test_a_sufficiently_wide_beam_finds_the_best_of_all_captions(seed, alpha, lengths, no_repeat, suppress_tokens):
    step, features = Recurrent(vocabulary=7, seed=seed), random_images(1, seed)
    options = SearchOptions(
        beam_size=110,  # 27 captions of three words, each with four continuations
        n_best=12,
        min_length=lengths[0],
        max_length=lengths[1],
        length_penalty=alpha,
        no_repeat_ngram_size=no_repeat,
        suppress_tokens=suppress_tokens,
    )
    expected = brute_force(step, features, options)[:12]
    [found] = search(step, features, options)
    assert_same([h for h in found if h.finished], expected)


def plain_beam_search(step, features: np.ndarray, options: SearchOptions) -> list[Hypothesis]:
    """Beam search with one row per call, Python lists and no early stopping."""
    beams, finished, cut = [((), (), step.start(features))], [], []
    for length in range(options.max_length + 1):
        candidates = []
        for number, (words, terms, state) in enumerate(beams):
            log_probs, state = step(np.array([(START, *words)[-1]]), state)
            allowed = [word for word in range(END, log_probs.shape[1]) if word != UNK]
            if length < options.min_length:
                allowed.remove(END)
            candidates += [(number, word, (*terms, float(log_probs[0, word])), state) for word in allowed]
        candidates.sort(key=lambda candidate: -sum(candidate[2]))
        ended = [c for c in candidates[: options.beam_size] if c[1] == END]
        for number, _, terms, _ in ended:
            score = sum(terms) / len(terms) ** options.length_penalty
            finished.append(Hypothesis(beams[number][0], sum(terms), terms, score, True))
        if length == options.max_length:
            for words, terms, _ in [beam for i, beam in enumerate(beams) if i not in [c[0] for c in ended]]:
                score = sum(terms) / len(terms) ** options.length_penalty
                cut.append(Hypothesis(words, sum(terms), terms, score, False))
        going = [c for c in candidates if c[1] != END][: options.beam_size]
        beams = [((*beams[number][0], word), terms, state) for number, word, terms, state in going]
    ranked = [sorted(found, key=lambda hypothesis: -hypothesis.score) for found in (finished, cut)]
    return (ranked[0] + ranked[1])[: options.n_best]


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    beam=st.tuples(st.integers(1, 4), st.integers(1, 4)).filter(lambda pair: pair[0] <= pair[1]),
    alpha=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    min_length=st.integers(0, 3),
)
def test_batched_search_equals_a_simple_search_without_early_stopping(seed, beam, alpha, min_length):
    step, features = Recurrent(vocabulary=12, seed=seed), random_images(4, seed)
    options = SearchOptions(
        beam_size=beam[1], n_best=beam[0], max_length=7, min_length=min_length, length_penalty=alpha
    )
    for row, found in enumerate(search(step, features, options)):
        assert_same(found, plain_beam_search(step, features[row : row + 1], options))


@pytest.mark.parametrize("strategy", ["beam", "greedy"])
def test_batched_search_equals_search_of_one_image_at_a_time(strategy):
    step, features = Recurrent(vocabulary=12), random_images(20)
    options = SearchOptions(strategy=strategy, max_length=9)
    together = search(step, features, options)
    assert len({h.tokens for [h] in together}) > 5
    for row, found in enumerate(together):
        assert_same(found, search(step, features[row : row + 1], options)[0])


def test_beam_search_of_width_one_equals_greedy_search():
    step, features = Recurrent(seed=4), random_images(20)
    beam = search(step, features, SearchOptions(beam_size=1, max_length=9))
    assert beam == search(step, features, SearchOptions(strategy="greedy", max_length=9))
    assert {h.finished for [h] in beam} == {True, False}


def test_no_images_give_no_captions():
    assert search(Recurrent(), random_images(0)) == []


def test_no_ngram_of_the_given_size_is_repeated():
    step = Sentences({"abab": 0.5, "abac": 0.3, "abcd": 0.2})
    for size, expected in ((0, "abab"), (3, "abab"), (2, "abac"), (1, "abcd")):
        [[found]] = search(step, images(0), SearchOptions(no_repeat_ngram_size=size))
        assert text(found) == expected


@pytest.mark.parametrize("strategy", ["beam", "greedy", "sample"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_long_captions_contain_no_repeated_ngram(strategy, size):
    options = SearchOptions(strategy=strategy, min_length=8, max_length=12, no_repeat_ngram_size=size, seed=0)
    step, features = Recurrent(vocabulary=20, seed=1, sharpness=1.0), random_images(16)

    def repeats(results):
        lines = [[h.tokens[i : i + size] for i in range(len(h.tokens) - size + 1)] for [h] in results]
        return sum(len(set(line)) < len(line) for line in lines)

    assert repeats(search(step, features, options)) == 0
    assert repeats(search(step, features, replace(options, no_repeat_ngram_size=0))) > 0


@pytest.mark.parametrize("strategy", ["beam", "greedy", "sample"])
def test_special_and_suppressed_tokens_are_never_produced(strategy):
    class Special(Recurrent):
        def __call__(self, tokens, state):
            log_probs, state = super().__call__(tokens, state)
            log_probs[:, [PAD, START, UNK, B]] = 0.0  # the largest possible log-probability
            return log_probs, state

    options = SearchOptions(strategy=strategy, max_length=6, suppress_tokens=(B,), seed=0)
    produced = {token for [h] in search(Special(), random_images(30), options) for token in h.tokens}
    assert produced == {A, C, D}


def test_min_length_applies_to_every_strategy():
    step = Sentences({"": 0.6, "a": 0.2, "ab": 0.1, "abc": 0.1})
    for strategy in ("beam", "greedy", "sample"):
        [[found]] = search(step, images(0), SearchOptions(strategy=strategy, min_length=3))
        assert (text(found), found.finished) == ("abc", True)
    assert found.log_prob == pytest.approx(math.log(0.1), abs=1e-6)


WORDS = {"a": 0.5, "b": 0.3, "c": 0.15, "d": 0.05}


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({}, {"a": 0.5, "b": 0.3, "c": 0.15, "d": 0.05}),
        # The squares of the probabilities, divided by their sum 0.365.
        ({"temperature": 0.5}, {"a": 0.25 / 0.365, "b": 0.09 / 0.365, "c": 0.0225 / 0.365, "d": 0.0025 / 0.365}),
        ({"top_k": 2}, {"a": 0.625, "b": 0.375}),
        ({"top_k": 100}, {"a": 0.5, "b": 0.3, "c": 0.15, "d": 0.05}),
        ({"top_p": 0.45}, {"a": 1.0}),
        ({"top_p": 0.6}, {"a": 0.625, "b": 0.375}),
        # top_p applies after top_k: of the two most likely words, "a" has a probability of 0.625.
        ({"top_k": 2, "top_p": 0.6}, {"a": 1.0}),
        # At temperature 0.5, "a" has a probability of 0.685.
        ({"temperature": 0.5, "top_p": 0.6}, {"a": 1.0}),
    ],
)
def test_sampled_words_follow_the_probabilities_of_the_options(choices, expected):
    number = 4000
    options = SearchOptions(strategy="sample", n_best=number, max_length=4, seed=1, **choices)
    [found] = search(Sentences(WORDS), images(0), options)
    drawn = [text(hypothesis) for hypothesis in found]
    assert set(drawn) == set(expected)
    for word, probability in expected.items():
        deviation = math.sqrt(probability * (1 - probability) / number)
        assert drawn.count(word) / number == pytest.approx(probability, abs=4 * deviation + 1e-12)
    # The log-probabilities are those of the model, regardless of the options, and the best captions come first.
    assert [h.log_prob for h in found] == pytest.approx([math.log(WORDS[word]) for word in drawn], abs=1e-6)
    assert drawn == sorted(drawn)


def test_sampled_captions_follow_the_probabilities_of_the_model():
    number = 4000
    sets = [{"ab": 0.4, "ac": 0.2, "b": 0.3, "": 0.1}, {"dcba": 0.75, "dcab": 0.25}]
    options = SearchOptions(strategy="sample", n_best=number, max_length=4, seed=2)
    results = search(Sentences(*sets), images(0, 1), options)
    for known, line in zip(sets, texts(results), strict=True):
        for sentence, probability in known.items():
            assert line.count(sentence) / number == pytest.approx(probability, abs=0.03)


def test_the_same_seed_gives_the_same_samples():
    step, features = Recurrent(vocabulary=40), random_images(8)
    options = SearchOptions(strategy="sample", n_best=2, seed=5)
    assert search(step, features, options) == search(step, features, options)
    assert search(step, features, options) != search(step, features, replace(options, seed=6))


def test_an_ensemble_averages_probabilities():
    # Means of the two models: "a" 0.4, "b" 0.35, "c" 0.25. After "a", "b" has (0.1 + 0.9) / 2.
    pair = Ensemble(
        [
            Sentences({"ab": 0.07, "ac": 0.63, "b": 0.2, "c": 0.1}),
            Sentences({"ab": 0.09, "ac": 0.01, "b": 0.5, "c": 0.4}),
        ]
    )
    log_probs, state = pair(np.array([START]), pair.start(images(0)))
    assert np.exp(log_probs[0]) == pytest.approx([0, 0, 0, 0, 0.4, 0.35, 0.25, 0], abs=1e-6)
    assert log_probs.dtype == np.float32
    log_probs, _ = pair(np.array([A]), state)
    assert np.exp(log_probs[0]) == pytest.approx([0, 0, 0, 0, 0, 0.5, 0.5, 0], abs=1e-6)
    [[found]] = search(pair, images(0))
    assert text(found) == "b"
    assert found.log_prob == pytest.approx(math.log(0.35), abs=1e-6)


def test_an_ensemble_of_a_model_with_itself_equals_the_model():
    step, features = Recurrent(vocabulary=40), random_images(6)
    options = SearchOptions(n_best=3, max_length=9)
    for twice, once in zip(
        search(Ensemble([step, step]), features, options), search(step, features, options), strict=True
    ):
        assert_same(twice, once)


def test_each_model_of_an_ensemble_can_have_its_own_features():
    one, other = Sentences({"a": 1.0}, {"b": 0.9, "c": 0.1}), Sentences({"c": 0.3, "d": 0.7})
    [[found]] = search(Ensemble([one, other]), [images(1), images(0)])
    assert text(found) == "b"
    assert found.token_log_probs == pytest.approx([math.log(0.45), 0.0], abs=1e-6)
    with pytest.raises(ConfigurationError, match=r"2 models needs one feature array per model, not 3"):
        search(Ensemble([one, other]), [images(0)] * 3)


def test_an_ensemble_needs_models_and_one_vocabulary():
    with pytest.raises(ConfigurationError, match="at least one model"):
        Ensemble([])
    with pytest.raises(MismatchError, match=r"\[8, 9\]"):
        search(Ensemble([Recurrent(8), Recurrent(9)]), random_images(1))


def test_a_model_that_returns_nan_is_refused():
    with pytest.raises(ShowtellError, match="NaN"):
        search(Recurrent(), np.full((1, 1, 6), np.nan, dtype=np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("strategy", ["beam", "greedy", "sample"])
def test_a_model_with_one_invalid_log_probability_is_refused(strategy, value):
    class Damaged(Recurrent):
        def __call__(self, tokens, state):
            log_probs, state = super().__call__(tokens, state)
            log_probs[:, 5] = value
            return log_probs, state

    with pytest.raises(ShowtellError, match="NaN or infinity"):
        search(Damaged(), random_images(2), SearchOptions(strategy=strategy, seed=0))


def test_a_suppressed_token_must_be_in_the_vocabulary():
    with pytest.raises(ConfigurationError, match=r"below the vocabulary size 8.*\(8,\)"):
        search(Recurrent(vocabulary=8), random_images(1), SearchOptions(suppress_tokens=(8,)))


def test_search_does_not_change_the_state_of_the_model():
    class Frozen(Recurrent):
        def __call__(self, tokens, state):
            log_probs, state = super().__call__(tokens, state)
            for array in (*state.image.values(), *state.caption.values()):
                array.flags.writeable = False
            return log_probs, state

    for strategy in ("beam", "greedy", "sample"):
        options = SearchOptions(
            strategy=strategy, min_length=1, max_length=3, temperature=0.5, top_k=3, top_p=0.9, seed=0
        )
        assert search(Frozen(), random_images(2), options) == search(Recurrent(), random_images(2), options)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"strategy": "best"}, "strategy must be"),
        ({"beam_size": 0}, "beam_size must be 1 to 200, not 0"),
        ({"beam_size": 201}, "beam_size must be 1 to 200, not 201"),
        ({"n_best": 0, "strategy": "sample"}, "n_best must be 1 or more, not 0"),
        ({"beam_size": 3, "n_best": 4}, "n_best must be at most beam_size .3., not 4"),
        ({"strategy": "greedy", "n_best": 2}, "n_best must be 1 in greedy search, not 2"),
        ({"max_length": 0}, "max_length must be 1 to 1000"),
        ({"max_length": 10**9}, "max_length must be 1 to 1000"),
        ({"max_length": 101, "beam_size": 200}, "max_length must be at most 100 for 200 captions"),
        ({"max_length": 501, "n_best": 40, "strategy": "sample"}, "max_length must be at most 500 for 40 captions"),
        ({"min_length": 21}, "min_length must be 0 to max_length .20., not 21"),
        ({"min_length": -1}, "min_length must be 0 to"),
        ({"length_penalty": -0.1}, "length_penalty must be 0"),
        ({"length_penalty": 10**30}, "length_penalty must be 0 .off. to 100"),
        ({"length_penalty": math.nan}, "length_penalty must be 0"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size must be 0"),
        ({"suppress_tokens": (END,)}, "suppress_tokens must contain only token ids of 4 or more"),
        ({"temperature": 0.0}, "temperature must be more than 0"),
        ({"top_k": -1}, "top_k must be 0"),
        ({"top_p": 0.0}, "top_p must be more than 0"),
        ({"top_p": 1.1}, "top_p must be more than 0"),
        ({"seed": -1}, "seed must be 0 or more"),
    ],
)
def test_options_that_cannot_work_are_refused(choices, message):
    with pytest.raises(ConfigurationError, match=message):
        SearchOptions(**choices)
