"""Pretrained word vectors."""

from collections.abc import Set
from pathlib import Path

import numpy as np

from showtell.errors import ConfigurationError


def read_word_vectors(path: Path, size: int, words: Set[str]) -> dict[str, np.ndarray]:
    """Read the vectors of `words` from a file in GloVe's text format: a word and `size` numbers a line.

    Returns:
        word -> (size,) float32, for those of the words that the file has.

    Raises:
        ConfigurationError: if the file cannot be read, or its vectors have another size.
    """
    vectors = {}
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                word, *numbers = line.rstrip().split(" ")
                if number == 1 and len(numbers) == 1:
                    continue  # the header of word2vec's text format, which is otherwise the same
                if len(numbers) != size:
                    raise ConfigurationError(
                        f"{path}, line {number}: a vector of {len(numbers)} numbers; embedding_size is {size}, "
                        "and must be that of the vectors"
                    )
                if word in words:
                    vectors[word] = np.array(numbers, dtype=np.float32)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: cannot read word vectors: {error}") from None
    return vectors
