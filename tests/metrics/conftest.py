import random

import pytest
from helpers import split_words


@pytest.fixture(scope="session")
def random_set():
    """Captions and references of 60 images that share n-grams to all degrees; some captions are short or empty."""
    generator = random.Random(7)
    [words] = split_words("a a a the on dog cat sits runs red big and of grass sea")

    def caption():
        return generator.choices(words, k=generator.randint(1, 12))

    candidates = [[], *split_words("dog", "dog dog", "unheard of unheard of"), *(caption() for _ in range(56))]
    references = [[caption() for _ in range(generator.randint(1, 5))] for _ in candidates]
    references[10][0] = candidates[10]
    return candidates, references


@pytest.fixture(scope="session")
def coco_set(random_set):
    """The same as the two arguments of pycocoevalcap: references first, words joined by spaces."""
    candidates, references = random_set
    return (
        {index: [" ".join(caption) for caption in captions] for index, captions in enumerate(references)},
        {index: [" ".join(caption)] for index, caption in enumerate(candidates)},
    )
