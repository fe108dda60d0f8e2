"""Pretrained word vectors such as GloVe (Pennington et al., 2014)."""

from collections.abc import Set
from pathlib import Path

import numpy as np

from showtell.errors import ConfigurationError


def read_word_vectors(path: Path, size: int, words: Set[str]) -> dict[str, np.ndarray]:
    """Read word vectors from a text file in GloVe's format: a word and `size` numbers per line.

    A word2vec header line is skipped.

    Returns:
        word -> (size,) float32, for all `words` in the file.

    Raises:
        ConfigurationError: if the file cannot be read, or its vectors have another size.
    """
    vectors = {}
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                word, *numbers = line.rstrip().split(" ")
                if number == 1 and len(numbers) == 1:
                    continue  # the header of a word2vec file
                if len(numbers) != size:
                    raise ConfigurationError(
                        f"{path}: line {number}: vector of size {len(numbers)}, but embedding_size is {size}; set "
                        f"--embedding-size {len(numbers)}"
                    )
                if word in words:
                    vectors[word] = np.array(numbers, dtype=np.float32)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: cannot read word vectors: {error}") from None
    return vectors
