"""The vocabulary: captions as rows of word ids, and back."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from showtell.errors import CaptionFileError, ConfigurationError
from showtell.files import written_whole

PAD, START, END, UNK = range(4)
SPECIAL_TOKENS = ("<pad>", "<start>", "<end>", "<unk>")

# A word is letters and digits, hyphens inside it included; an English clitic ('s, 't, ..) is a word of its own, much as
# in the Penn Treebank. All other punctuation is dropped.
_WORD = r"[\p{L}\p{M}\p{N}]+(?:[-.][\p{L}\p{M}\p{N}]+)*|'(?:s|t|d|m|re|ve|ll)(?![\p{L}\p{M}\p{N}])"


class Vocabulary:
    """The words that a model knows, each with its id; wraps a Hugging Face tokenizer, which is also its file format.

    Ids 0 to 3 are `<pad>`, `<start>`, `<end>` and `<unk>`; words follow, the most frequent first.
    """

    def __init__(self, tokenizer: Tokenizer):
        if [tokenizer.id_to_token(index) for index in range(4)] != list(SPECIAL_TOKENS):
            raise CaptionFileError(f"the vocabulary does not begin with {' '.join(SPECIAL_TOKENS)}; build it anew")
        # Text is never trusted to name special tokens: "<start>" in a caption is the word "start".
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer

    @classmethod
    def build(cls, captions: Iterable[str], size: int = 5000, min_count: int = 1) -> "Vocabulary":
        """Take the `size` most frequent words that occur at least `min_count` times; ties go by the alphabet.

        Special tokens do not count towards `size`.
        """
        return cls.from_words(_frequent_words(captions, min_count)[:size])

    def extended(self, captions: Iterable[str], size: int = 5000, min_count: int = 1) -> "Vocabulary":
        """Keep all words with their ids, and append what is new in `captions`, chosen as `build` does.

        `size` bounds old and new words together, but no old one is dropped for it.
        """
        old = self.words[len(SPECIAL_TOKENS) :]
        new = [word for word in _frequent_words(captions, min_count) if word not in self]
        return self.from_words([*old, *new[: max(0, size - len(old))]])

    @classmethod
    def from_words(cls, words: Sequence[str]) -> "Vocabulary":
        """Make a vocabulary of the given words, ids from 4 in their order."""
        return cls(_word_level(words))

    @classmethod
    def from_json(cls, text: str) -> "Vocabulary":
        """Read the text of a tokenizer.json. Raises CaptionFileError if it is none."""
        try:
            return cls(Tokenizer.from_str(text))
        except CaptionFileError:
            raise
        except Exception as error:  # the Rust side raises bare Exception
            raise CaptionFileError(f"not a vocabulary (tokenizer.json): {error}") from None

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """Read a vocabulary file. Raises CaptionFileError if it is none."""
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, CaptionFileError) as error:
            raise CaptionFileError(f"{path}: cannot read the vocabulary: {error}") from None

    def save(self, path: str | Path) -> None:
        """Write the vocabulary as a tokenizer.json."""
        with written_whole(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """Return the vocabulary as the text of a tokenizer.json."""
        return str(self.tokenizer.to_str(pretty=True))

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All tokens in the order of their ids, the special ones first."""
        return tuple(str(self.tokenizer.id_to_token(index)) for index in range(len(self)))

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that two vocabularies share only if every word has the same id."""
        return hashlib.sha256(json.dumps(self.words).encode()).hexdigest()[:12]

    def __contains__(self, word: str) -> bool:
        return self.tokenizer.token_to_id(word) is not None

    def __len__(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    def id_of(self, word: str) -> int:
        """Return the id of a word, as it would be looked up in a caption. Raises ConfigurationError if it has none."""
        words = split_words(word, self.tokenizer)
        if len(words) != 1:
            raise ConfigurationError(f"{word!r} is not one word; give one at a time")
        identity = self.tokenizer.token_to_id(words[0])
        if identity is None:
            raise ConfigurationError(f"{word!r} is not among the {len(self):,} words that the model knows")
        return int(identity)

    def encode(self, captions: Sequence[str], length: int) -> np.ndarray:
        """Return ids (N, length) int32: `<start>`, the words, `<end>`, then `<pad>`.

        A caption of more than `length - 2` words loses those at its end.
        """
        # No word has a blank in it, and captions share words: what stands between blanks is looked up once.
        pieces = list(set(chain.from_iterable(map(str.split, captions))))
        encodings = self.tokenizer.encode_batch_fast(pieces)
        known = {piece: encoding.ids for piece, encoding in zip(pieces, encodings, strict=True)}
        ids = np.full((len(captions), length), PAD, dtype=np.int32)
        for row, caption in zip(ids, captions, strict=True):
            words = [START, *chain.from_iterable(map(known.__getitem__, caption.split()))]
            words[length - 1 :] = []
            words.append(END)
            row[: len(words)] = words
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of a row of ids, special tokens left out."""
        return str(self.tokenizer.decode([int(index) for index in ids], skip_special_tokens=True))


def split_words(caption: str, tokenizer: Tokenizer) -> list[str]:
    """Return the words of a caption as `tokenizer` would look them up."""
    normal = tokenizer.normalizer.normalize_str(caption)
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]


def _frequent_words(captions: Iterable[str], min_count: int) -> list[str]:
    """Return the words that occur at least `min_count` times, the most frequent first; ties go by the alphabet."""
    splitter = _word_level([])
    counts: Counter[str] = Counter()
    for piece, count in Counter(chain.from_iterable(map(str.split, captions))).items():
        for word in split_words(piece, splitter):
            counts[word] += count
    frequent = [word for word, count in counts.items() if count >= min_count]
    return sorted(frequent, key=lambda word: (-counts[word], word))


def _word_level(words: Sequence[str]) -> Tokenizer:
    index = {token: position for position, token in enumerate((*SPECIAL_TOKENS, *words))}
    if len(index) != len(words) + len(SPECIAL_TOKENS):
        raise CaptionFileError("the vocabulary names a word twice; every word must have one id")
    tokenizer = Tokenizer(models.WordLevel(index, unk_token=SPECIAL_TOKENS[UNK]))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Lowercase(), normalizers.Replace("\u2019", "'")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True)
    # A blank before every word but those that begin with an apostrophe, and none before the first.
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(Regex(r"^(?=[^'])"), " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer
