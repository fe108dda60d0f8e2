"""The vocabulary: converts captions to rows of token ids, and back.

Three kinds of tokens exist. "word" is for languages with spaces between words: lower-case words without punctuation.
"bpe" and "char" are for any language: subwords found by byte-pair encoding (Sennrich et al., 2016,
https://arxiv.org/abs/1508.07909), or characters. They keep capitals and punctuation, and mark the start of a word with
"▁" (Kudo and Richardson, 2018, https://arxiv.org/abs/1808.06226). All kinds normalise text to Unicode NFC.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from showtell.errors import ConfigurationError, VocabularyError
from showtell.utils.files import atomic_write

PAD, START, END, UNK = range(4)
SPECIAL_TOKENS = ("<pad>", "<start>", "<end>", "<unk>")
WORD_START = "▁"
# Without this limit, whole phrases become one token in languages without spaces. SentencePiece has the same limit.
MAX_SUBWORD_LENGTH = 16
MAX_TOKEN_LENGTH = 200
MAX_TOKENS = 200_004  # MAX_VOCABULARY_SIZE of recipes and the special tokens; such a file has less than 10 MB

# A word consists of letters and digits, with hyphens and dots inside. English clitics ('s, 't, ..) are separate words,
# similar to the Penn Treebank. All other punctuation is dropped.
_WORD = r"[\p{L}\p{M}\p{N}]+(?:[-.][\p{L}\p{M}\p{N}]+)*|'(?:s|t|d|m|re|ve|ll)(?![\p{L}\p{M}\p{N}])"
# Control characters, line and paragraph separators, and lone surrogates. Some of them control a terminal.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Vocabulary:
    """The tokens that a model knows, with their ids; wraps a Hugging Face tokenizer, which is also its file format.

    Ids 0 to 3 are `<pad>`, `<start>`, `<end>` and `<unk>`. Words or characters follow, most frequent first, then
    subwords in the order in which byte-pair encoding found them.

    Args:
        tokenizer: a tokenizer whose first four tokens are the special tokens.

    Raises:
        VocabularyError: if the special tokens are missing, or a token is empty, too long, or has control characters.

    Examples:
        >>> vocabulary = Vocabulary.build(["A dog runs.", "A dog sleeps!"])
        >>> vocabulary.tokens
        ('<pad>', '<start>', '<end>', '<unk>', 'a', 'dog', 'runs', 'sleeps')
        >>> ids = vocabulary.encode(["a dog barks"], length=6)
        >>> ids
        array([[1, 4, 5, 3, 2, 0]], dtype=int32)
        >>> vocabulary.decode(ids[0])
        'a dog'
    """

    def __init__(self, tokenizer: Tokenizer):
        if [tokenizer.id_to_token(index) for index in range(4)] != list(SPECIAL_TOKENS):
            raise VocabularyError(f"the vocabulary does not start with {' '.join(SPECIAL_TOKENS)}; build it again")
        # Special tokens in text are ordinary text: "<start>" in a caption is the word "start".
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        if not _are_text(self.tokens):
            bad = next(token for token in self.tokens if not _are_text([token]))
            raise VocabularyError(
                f"invalid token {bad[:MAX_TOKEN_LENGTH]!a}: tokens must have 1 to {MAX_TOKEN_LENGTH} characters and no "
                "control characters; build the vocabulary again"
            )

    @classmethod
    def build(cls, captions: Iterable[str], size: int = 5000, min_count: int = 1, kind: str = "word") -> "Vocabulary":
        """Build a vocabulary of the most frequent tokens of captions. Ties are sorted alphabetically.

        Args:
            captions: the training captions.
            size: maximum number of tokens, excluding special tokens.
            min_count: minimum number of occurrences of a token.
            kind: "word", "char" or "bpe". The kind "bpe" starts with the characters, and then merges the most frequent
                pair of adjacent tokens, as long as it occurs at least twice and `size` is not reached.
        """
        captions = list(captions)
        if kind == "word":
            return cls.from_words(
                _most_frequent(captions, partial(_split_words, _word_tokenizer([])), min_count)[:size]
            )
        characters = _most_frequent(captions, _to_characters, min_count)[:size]
        merges = _train_merges(captions, characters, size, min_count) if kind == "bpe" else []
        return cls(_subword_tokenizer(list(dict.fromkeys([*characters, *map("".join, merges)])), merges))

    def extend(self, captions: Iterable[str], size: int = 5000, min_count: int = 1) -> "Vocabulary":
        """Return a vocabulary with all tokens and ids of this one, followed by new tokens from captions.

        New tokens are words, or characters if this vocabulary has subwords or characters. No subwords are added, so all
        captions are encoded as before.

        Args:
            captions: captions with new words.
            size: maximum number of old and new tokens, excluding special tokens. No old token is dropped.
            min_count: minimum number of occurrences of a new token.
        """
        old = self.tokens[len(SPECIAL_TOKENS) :]
        split = partial(_split_words, self.tokenizer) if self.kind == "word" else _to_characters
        new = [token for token in _most_frequent(captions, split, min_count) if token not in self]
        tokens = [*old, *new[: max(0, size - len(old))]]
        return self.from_words(tokens) if self.kind == "word" else Vocabulary(_subword_tokenizer(tokens, self._merges))

    def is_extension_of(self, other: "Vocabulary") -> bool:
        """Return whether this vocabulary equals another one, or extends it."""
        return self.kind == other.kind and self.tokens[: len(other)] == other.tokens and self._merges == other._merges

    @classmethod
    def from_words(cls, words: Sequence[str]) -> "Vocabulary":
        """Make a vocabulary of words. The first word gets id 4."""
        return cls(_word_tokenizer(words))

    @classmethod
    def from_json(cls, text: str) -> "Vocabulary":
        """Read the result of `to_json`.

        The tokenizer is built from the tokens of the text. The rest of the text must describe that tokenizer: other
        normalisers, regular expressions and decoders could take any time, or crash the tokenizers package.

        Raises:
            VocabularyError: if the text is invalid.
        """
        try:
            content = json.loads(text)
            model = content.pop("model")
            tokens, merges = _tokens_of(model.pop("vocab")), [(left, right) for left, right in model.pop("merges", ())]
            if _settings_of({**content, "model": model}) != _own_settings(model["type"]):
                raise VocabularyError(
                    "the tokenizer settings differ from those of showtell; build the vocabulary again"
                )
            return cls(_TOKENIZERS[model["type"]](tokens, merges))
        except VocabularyError:
            raise
        except Exception as error:  # tokenizers raises bare Exception
            raise VocabularyError(f"not a vocabulary (tokenizer.json): {repr(error)[:MAX_TOKEN_LENGTH]}") from None

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """Read a tokenizer.json. Raises VocabularyError if the file is missing or invalid."""
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, VocabularyError) as error:
            raise VocabularyError(f"{path}: cannot read the vocabulary: {error}") from None

    def save(self, path: str | Path) -> None:
        """Write the vocabulary as a tokenizer.json."""
        with atomic_write(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """Return the content of the tokenizer.json."""
        return str(self.tokenizer.to_str(pretty=True))

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """All tokens in the order of their ids, including the special tokens."""
        return tuple(str(self.tokenizer.id_to_token(index)) for index in range(len(self)))

    @cached_property
    def kind(self) -> str:
        """The kind of the tokens: "word", "bpe" or "char"."""
        if isinstance(self.tokenizer.model, models.WordLevel):
            return "word"
        return "bpe" if self._merges else "char"

    @property
    def unit(self) -> str:
        """The name of the tokens in messages: "words" or "tokens"."""
        return "words" if self.kind == "word" else "tokens"

    @cached_property
    def _merges(self) -> list[tuple[str, str]]:
        return _merges_of(self.tokenizer)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of 12 hexadecimal digits. Two vocabularies share it only if they encode all captions identically."""
        return hashlib.sha256(json.dumps([*self.tokens, *self._merges]).encode()).hexdigest()[:12]

    def __contains__(self, token: str) -> bool:
        return self.tokenizer.token_to_id(token) is not None

    def __len__(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    def find_id(self, word: str) -> int:
        """Return the id of a word or character, after normalising it like a caption.

        Raises:
            ConfigurationError: if `word` is not exactly one token of the vocabulary, or the tokens are subwords.
        """
        word = word.encode("utf-8", "replace").decode()  # undecodable bytes of a command line
        if self.kind == "bpe":
            raise ConfigurationError(f"the model uses subwords (tokenizer bpe), so {word!r} has no single id")
        parts = _split_words(self.tokenizer, word) if self.kind == "word" else list(_to_characters(word)[1:])
        if len(parts) != 1:
            unit = "word" if self.kind == "word" else "character, and the model uses characters (tokenizer char)"
            raise ConfigurationError(f"{word!r} is not a single {unit}; pass one at a time")
        token_id = self.tokenizer.token_to_id(parts[0])
        if token_id is None:
            raise ConfigurationError(f"{word!r} is not among the {len(self):,} {self.unit} of the model's vocabulary")
        return int(token_id)

    def encode(self, captions: Sequence[str], length: int) -> np.ndarray:
        """Encode captions as padded rows of token ids.

        Args:
            captions: N captions.
            length: length of the rows. Captions of more than `length - 2` tokens are truncated.

        Returns:
            (N, length) int32: `<start>`, the tokens, `<end>`, then `<pad>`.
        """
        # Tokens never span whitespace, and captions share words. Each distinct word is therefore encoded only once.
        words = list(set(chain.from_iterable(map(str.split, captions))))
        encodings = self.tokenizer.encode_batch_fast(words)
        ids_of_word = {word: encoding.ids for word, encoding in zip(words, encodings, strict=True)}
        rows = np.full((len(captions), length), PAD, dtype=np.int32)
        for row, caption in zip(rows, captions, strict=True):
            ids = [START, *chain.from_iterable(map(ids_of_word.__getitem__, caption.split()))]
            ids[length - 1 :] = []
            ids.append(END)
            row[: len(ids)] = ids
        return rows

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of a row of token ids without special tokens."""
        return " ".join(self.tokenizer.decode([int(index) for index in ids], skip_special_tokens=True).split())

    def token_strings(self, ids: Iterable[int]) -> tuple[str, ...]:
        """Return the text of each token without the word-start mark. A token that is only the mark becomes ""."""
        return tuple(self.tokens[index].removeprefix(WORD_START) for index in ids)


def _are_text(tokens: Sequence[str]) -> bool:
    """Return whether all tokens have a valid length and no control characters."""
    return all(0 < len(token) <= MAX_TOKEN_LENGTH for token in tokens) and not _CONTROL.search("".join(tokens))


def _tokens_of(vocab: dict[str, int]) -> list[str]:
    """Return the tokens of a tokenizer.json in the order of their ids, without the special tokens."""
    tokens = sorted(vocab, key=vocab.__getitem__)
    if len(tokens) > MAX_TOKENS:
        raise VocabularyError(f"the vocabulary has {len(tokens):,} tokens; the maximum is {MAX_TOKENS:,}")
    if list(map(vocab.__getitem__, tokens)) != [*range(len(tokens))]:
        raise VocabularyError("the token ids are not consecutive from 0; build the vocabulary again")
    if tokens[: len(SPECIAL_TOKENS)] != [*SPECIAL_TOKENS]:
        raise VocabularyError(f"the vocabulary does not start with {' '.join(SPECIAL_TOKENS)}; build it again")
    return tokens[len(SPECIAL_TOKENS) :]


def _settings_of(value: Any) -> Any:
    """Return the content of a tokenizer.json without disabled settings, in which versions of tokenizers differ."""
    if isinstance(value, dict):
        return {key: _settings_of(setting) for key, setting in value.items() if setting}
    return [_settings_of(setting) for setting in value] if isinstance(value, list) else value


def _own_settings(model: str) -> Any:
    """Return the settings of showtell's tokenizer with the model "WordLevel" or "BPE"; None for any other model."""
    if model not in _TOKENIZERS:
        return None
    content = json.loads(_TOKENIZERS[model]([], []).to_str())
    del content["model"]["vocab"]
    content["model"].pop("merges", None)
    return _settings_of(content)


def _split_words(tokenizer: Tokenizer, caption: str) -> list[str]:
    """Split a caption into words in the same way as `tokenizer`."""
    normal = tokenizer.normalizer.normalize_str(caption)
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]


def _to_characters(word: str) -> str:
    """Return the characters of a whitespace-separated part of a caption, with the word-start mark in front."""
    return WORD_START + normalizers.NFC().normalize_str(word).removeprefix(WORD_START)


def _most_frequent(captions: Iterable[str], split: Callable[[str], Iterable[str]], min_count: int) -> list[str]:
    """Return the tokens with at least `min_count` occurrences, most frequent first, ties in alphabetical order."""
    counts: Counter[str] = Counter()
    for word, count in Counter(chain.from_iterable(map(str.split, captions))).items():
        for token in split(word):
            counts[token] += count
    frequent = [token for token, count in counts.items() if count >= min_count and _are_text([token])]
    return sorted(frequent, key=lambda token: (-counts[token], token))


def _train_merges(
    captions: Sequence[str], characters: Sequence[str], size: int, min_count: int
) -> list[tuple[str, str]]:
    """Return the merges of byte-pair encoding in order, for up to `size` tokens including the characters."""
    tokenizer = _subword_tokenizer([], [])
    rare_characters = len(_most_frequent(captions, _to_characters, 1)) - len(characters)
    trainer = trainers.BpeTrainer(
        vocab_size=size + rare_characters,  # the trainer keeps every character
        min_frequency=max(2, min_count),
        max_token_length=MAX_SUBWORD_LENGTH,
        show_progress=False,
    )
    tokenizer.train_from_iterator((" ".join(caption.split()) for caption in captions), trainer)
    known, merges = set(characters), []
    for left, right in _merges_of(tokenizer):
        # Captions may contain "<unk>" as text, which must not become a subword.
        if left in known and right in known and left + right not in SPECIAL_TOKENS:
            known.add(left + right)
            merges.append((left, right))
    return merges


def _merges_of(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    return [(left, right) for left, right in json.loads(tokenizer.to_str())["model"].get("merges", ())]


def _subword_tokenizer(tokens: Sequence[str], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    """Return a tokenizer that splits captions into characters, and applies the merges in order."""
    ids = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *tokens))}
    tokenizer = Tokenizer(models.BPE(ids, list(merges), unk_token=SPECIAL_TOKENS[UNK]))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation("isolated")]
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def _word_tokenizer(words: Sequence[str]) -> Tokenizer:
    """Return a tokenizer that looks up whole words."""
    ids = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *words))}
    if len(ids) != len(words) + len(SPECIAL_TOKENS):
        raise VocabularyError("the vocabulary contains a word twice; every word must have one id")
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=SPECIAL_TOKENS[UNK]))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Lowercase(), normalizers.Replace("\u2019", "'")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True)
    # Insert a space before every word except the first and those that start with an apostrophe.
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(Regex(r"^(?=[^'])"), " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


# Model of a tokenizer.json -> the function that builds the tokenizer from tokens and merges.
_TOKENIZERS: dict[str, Callable[[Sequence[str], Sequence[tuple[str, str]]], Tokenizer]] = {
    "WordLevel": lambda tokens, merges: _word_tokenizer(tokens),
    "BPE": _subword_tokenizer,
}
