"""The vocabulary: captions as rows of token ids, and back.

There are three kinds of tokens. "word" is for languages with blanks between words: words in small letters, without
punctuation. "bpe" and "char" are for any language: pieces of words that byte-pair encoding finds (Sennrich et al.,
2016, https://arxiv.org/abs/1508.07909), or characters. They keep capitals and punctuation; what follows a blank, or
begins the caption, begins with "▁" (Kudo and Richardson, 2018, https://arxiv.org/abs/1808.06226). All bring text into
Unicode's normalisation form C.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from showtell.errors import CaptionFileError, ConfigurationError
from showtell.utils.files import atomic_write

PAD, START, END, UNK = range(4)
SPECIAL_TOKENS = ("<pad>", "<start>", "<end>", "<unk>")
BLANK = "▁"
# Where there are no blanks, a whole phrase would else become one piece; SentencePiece has the same bound.
LONGEST_PIECE = 16

# A word is letters and digits, hyphens inside it included; an English clitic ('s, 't, ..) is a word of its own, much as
# in the Penn Treebank. All other punctuation is dropped.
_WORD = r"[\p{L}\p{M}\p{N}]+(?:[-.][\p{L}\p{M}\p{N}]+)*|'(?:s|t|d|m|re|ve|ll)(?![\p{L}\p{M}\p{N}])"


class Vocabulary:
    """The tokens that a model knows, each with its id; wraps a Hugging Face tokenizer, which is also its file format.

    Ids 0 to 3 are `<pad>`, `<start>`, `<end>` and `<unk>`; words or characters follow, the most frequent first, and
    after the characters the pieces, as byte-pair encoding has found them.
    """

    def __init__(self, tokenizer: Tokenizer):
        if [tokenizer.id_to_token(index) for index in range(4)] != list(SPECIAL_TOKENS):
            raise CaptionFileError(f"the vocabulary does not begin with {' '.join(SPECIAL_TOKENS)}; build it anew")
        # Text is never trusted to name special tokens: "<start>" in a caption is the word "start".
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer

    @classmethod
    def build(cls, captions: Iterable[str], size: int = 5000, min_count: int = 1, kind: str = "word") -> "Vocabulary":
        """Take the `size` most frequent words that occur at least `min_count` times; ties go by the alphabet.

        Special tokens do not count towards `size`. The kind "char" takes characters in the same way. So does "bpe", and
        fills up with pieces, joining whichever two tokens stand side by side most often, at least twice.
        """
        captions = list(captions)
        if kind == "word":
            return cls.from_words(_frequent(captions, partial(_split, _word_level([])), min_count)[:size])
        characters = _frequent(captions, _characters, min_count)[:size]
        merges = _merges(captions, characters, size, min_count) if kind == "bpe" else []
        return cls(_piecewise(list(dict.fromkeys([*characters, *map("".join, merges)])), merges))

    def extended(self, captions: Iterable[str], size: int = 5000, min_count: int = 1) -> "Vocabulary":
        """Keep all tokens with their ids, and append what is new in `captions`, chosen as `build` does.

        `size` bounds old and new tokens together, but no old one is dropped for it. New are words, or else characters:
        there are no new pieces, so that every old caption stays the same row of ids.
        """
        old = self.words[len(SPECIAL_TOKENS) :]
        parts = partial(_split, self.tokenizer) if self.kind == "word" else _characters
        new = [token for token in _frequent(captions, parts, min_count) if token not in self]
        tokens = [*old, *new[: max(0, size - len(old))]]
        return self.from_words(tokens) if self.kind == "word" else Vocabulary(_piecewise(tokens, self._merges))

    def goes_on_from(self, old: "Vocabulary") -> bool:
        """Return whether this is `old`, or `old` extended."""
        return self.kind == old.kind and self.words[: len(old)] == old.words and self._merges == old._merges

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
        with atomic_write(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """Return the vocabulary as the text of a tokenizer.json."""
        return str(self.tokenizer.to_str(pretty=True))

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All tokens in the order of their ids, the special ones first."""
        return tuple(str(self.tokenizer.id_to_token(index)) for index in range(len(self)))

    @cached_property
    def kind(self) -> str:
        """What its tokens are: "word", "bpe" or "char"."""
        if isinstance(self.tokenizer.model, models.WordLevel):
            return "word"
        return "bpe" if self._merges else "char"

    @property
    def noun(self) -> str:
        """What to call its tokens."""
        return "words" if self.kind == "word" else "tokens"

    @cached_property
    def _merges(self) -> list[tuple[str, str]]:
        return _merges_of(self.tokenizer)

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that two vocabularies share only if they give every caption the same ids."""
        return hashlib.sha256(json.dumps([*self.words, *self._merges]).encode()).hexdigest()[:12]

    def __contains__(self, word: str) -> bool:
        return self.tokenizer.token_to_id(word) is not None

    def __len__(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    def id_of(self, word: str) -> int:
        """Return the id of a word, or of a character if those are the tokens, as it would be looked up in a caption.

        Raises ConfigurationError if it has none.
        """
        if self.kind == "bpe":
            raise ConfigurationError(
                f"the model writes in pieces of words (tokenizer bpe); {word!r} has no id of its own"
            )
        parts = _split(self.tokenizer, word) if self.kind == "word" else list(_characters(word)[1:])
        if len(parts) != 1:
            unit = "word" if self.kind == "word" else "character, and the model writes in characters (tokenizer char)"
            raise ConfigurationError(f"{word!r} is not one {unit}; give one at a time")
        identity = self.tokenizer.token_to_id(parts[0])
        if identity is None:
            raise ConfigurationError(f"{word!r} is not among the {len(self):,} {self.noun} that the model knows")
        return int(identity)

    def encode(self, captions: Sequence[str], length: int) -> np.ndarray:
        """Return ids (N, length) int32: `<start>`, the tokens, `<end>`, then `<pad>`.

        A caption of more than `length - 2` tokens loses those at its end.
        """
        # No token has a blank within it, and captions share words: what stands between blanks is looked up once.
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
        return " ".join(self.tokenizer.decode([int(index) for index in ids], skip_special_tokens=True).split())

    def token_strings(self, ids: Iterable[int]) -> tuple[str, ...]:
        """Return the text of each token; that of a mere blank is empty."""
        return tuple(self.words[index].removeprefix(BLANK) for index in ids)


def _split(tokenizer: Tokenizer, caption: str) -> list[str]:
    """Return the words of a caption as `tokenizer` would look them up."""
    normal = tokenizer.normalizer.normalize_str(caption)
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]


def _characters(piece: str) -> str:
    """Return what stands between two blanks as the characters that are looked up for it."""
    return BLANK + normalizers.NFC().normalize_str(piece).removeprefix(BLANK)


def _frequent(captions: Iterable[str], parts: Callable[[str], Iterable[str]], min_count: int) -> list[str]:
    """Return the parts that occur at least `min_count` times, the most frequent first; ties go by the alphabet."""
    counts: Counter[str] = Counter()
    for piece, count in Counter(chain.from_iterable(map(str.split, captions))).items():
        for part in parts(piece):
            counts[part] += count
    frequent = [part for part, count in counts.items() if count >= min_count]
    return sorted(frequent, key=lambda part: (-counts[part], part))


def _merges(captions: Sequence[str], characters: Sequence[str], size: int, min_count: int) -> list[tuple[str, str]]:
    """Return the pairs of tokens that byte-pair encoding joins, in order, up to `size` tokens with the characters."""
    tokenizer = _piecewise([], [])
    rare = len(_frequent(captions, _characters, 1)) - len(characters)
    trainer = trainers.BpeTrainer(
        vocab_size=size + rare,  # it has a place for every character
        min_frequency=max(2, min_count),
        max_token_length=LONGEST_PIECE,
        show_progress=False,
    )
    tokenizer.train_from_iterator((" ".join(caption.split()) for caption in captions), trainer)
    known, merges = set(characters), []
    for left, right in _merges_of(tokenizer):
        # Captions may be full of "<unk>", which is no piece for that.
        if left in known and right in known and left + right not in SPECIAL_TOKENS:
            known.add(left + right)
            merges.append((left, right))
    return merges


def _merges_of(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    return [(left, right) for left, right in json.loads(tokenizer.to_str())["model"].get("merges", ())]


def _piecewise(tokens: Sequence[str], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    """Return a tokenizer that takes captions apart into characters and joins pairs of tokens, in the order given."""
    index = {token: position for position, token in enumerate((*SPECIAL_TOKENS, *tokens))}
    tokenizer = Tokenizer(models.BPE(index, list(merges), unk_token=SPECIAL_TOKENS[UNK]))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation("isolated")]
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


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
