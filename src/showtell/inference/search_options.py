"""Decoding options."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from showtell.errors import ConfigurationError
from showtell.vocabulary import UNK

# Bounds of the time and memory of a search.
MAX_BEAM_SIZE = 200
MAX_LENGTH = 1000
MAX_BEAM_TOKENS = 20_000

Strategy = Literal["beam", "greedy", "sample"]


@dataclass(frozen=True)
class SearchOptions:
    """How captions are decoded. Lengths count tokens without `<start>` and `<end>`.

    Attributes:
        strategy: "beam" for beam search; "greedy" for the most likely token at each step; "sample" for random sampling.
        beam_size: beam width, the number of partial captions per image in beam search.
        n_best: captions per image: at most `beam_size` for "beam", one for "greedy", independent samples for "sample".
        max_length: maximum caption length; longer captions are truncated and not `finished`. At most 1000, and at most
            20,000 tokens for all partial captions of an image.
        min_length: minimum caption length.
        length_penalty: alpha in score = log_prob / length ** alpha, where length includes `<end>`; 0 turns it off, 1
            ranks by the mean log-probability (the simpler form of Wu et al. 2016, https://arxiv.org/abs/1609.08144,
            section 7).
        no_repeat_ngram_size: no n-gram of this size occurs twice in a caption; 0 turns it off (Paulus et al. 2018,
            https://arxiv.org/abs/1705.04304).
        suppress_tokens: ids of tokens that are never generated.
        temperature: sampling divides the log-probabilities by it.
        top_k: sampling considers only the k most likely tokens; 0 considers all (Fan et al. 2018,
            https://arxiv.org/abs/1805.04833).
        top_p: sampling considers only the smallest set of most likely tokens with this total probability; 1 considers
            all (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751). Ties with the last token are kept.
        seed: seed of sampling; None draws different samples each time.

    Raises:
        ConfigurationError: if a value is out of range.

    Examples:
        >>> SearchOptions(beam_size=5, n_best=3).strategy
        'beam'
    """

    strategy: Strategy = "beam"
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

    @property
    def rows(self) -> int:
        """The number of captions that are decoded at the same time for each image."""
        return {"beam": self.beam_size, "greedy": 1, "sample": self.n_best}.get(self.strategy, 1)

    def __post_init__(self) -> None:
        rules = [
            ("strategy", self.strategy in ("beam", "greedy", "sample"), 'must be "beam", "greedy" or "sample"'),
            ("beam_size", 1 <= self.beam_size <= MAX_BEAM_SIZE, f"must be 1 to {MAX_BEAM_SIZE}"),
            ("n_best", self.n_best >= 1, "must be 1 or more"),
            (
                "n_best",
                self.strategy != "beam" or self.n_best <= self.beam_size,
                f"must be at most beam_size ({self.beam_size})",
            ),
            ("n_best", self.strategy != "greedy" or self.n_best == 1, "must be 1 in greedy search"),
            ("max_length", 1 <= self.max_length <= MAX_LENGTH, f"must be 1 to {MAX_LENGTH}"),
            (
                "max_length",
                self.rows * self.max_length <= MAX_BEAM_TOKENS,
                f"must be at most {MAX_BEAM_TOKENS // max(1, self.rows)} for {self.rows} captions at the same time",
            ),
            ("min_length", 0 <= self.min_length <= self.max_length, f"must be 0 to max_length ({self.max_length})"),
            ("length_penalty", 0 <= self.length_penalty <= 100, "must be 0 (off) to 100"),
            ("no_repeat_ngram_size", 0 <= self.no_repeat_ngram_size <= MAX_LENGTH, f"must be 0 (off) to {MAX_LENGTH}"),
            (
                "suppress_tokens",
                all(token > UNK for token in self.suppress_tokens),
                f"must contain only token ids of {UNK + 1} or more",
            ),
            ("temperature", 0 < self.temperature <= 100, "must be more than 0 and at most 100"),
            ("top_k", self.top_k >= 0, "must be 0 (off) or more"),
            ("top_p", 0 < self.top_p <= 1, "must be more than 0 and at most 1"),
            ("seed", self.seed is None or self.seed >= 0, "must be 0 or more"),
        ]
        for name, holds, rule in rules:
            if not holds:
                raise ConfigurationError(f"search option {name} {rule}, not {getattr(self, name)!r}")

    def override(self, **changes: Any) -> "SearchOptions":
        """Return the options with some values changed. `beam_size` is raised to `n_best` if needed, unless it is given.

        Raises:
            ConfigurationError: if an option is unknown or out of range.

        Examples:
            >>> SearchOptions().override(n_best=5).beam_size
            5
        """
        names = [option.name for option in fields(self)]
        if unknown := sorted(set(changes) - set(names)):
            raise ConfigurationError(f"unknown search option {unknown[0]!r}; available: {', '.join(names)}")
        changes.setdefault("beam_size", max(self.beam_size, changes.get("n_best", 1)))
        return replace(self, **changes)
