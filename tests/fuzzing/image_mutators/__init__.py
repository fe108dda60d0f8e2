"""Damage that knows image formats: parts of a file are changed, moved, repeated, and written with right checksums."""

import numpy as np
from byte_mutator import mutate

from image_mutators import bmp, gif, heif, jpeg, png, tiff, webp

MAX_BYTES = 32_000_000
_MUTATORS = {
    b"\x89PNG": png.mutate,
    b"\xff\xd8": jpeg.mutate,
    b"II": tiff.mutate,
    b"MM": tiff.mutate,
    b"GIF8": gif.mutate,
    b"RIFF": webp.mutate,
    b"BM": bmp.mutate,
}


def mutate_structure(content: bytes, generator: np.random.Generator) -> bytes:
    """Return an image file of at most 32 MB with damaged parts; one in ten has damaged bytes too."""
    mutator = next((found for start, found in _MUTATORS.items() if content.startswith(start)), heif.mutate)
    try:
        damaged = mutator(content, generator)[:MAX_BYTES]
    except MemoryError:  # one in 30,000 TIFF files becomes larger than the memory
        damaged = content
    return mutate(damaged, generator) if generator.random() < 0.1 else damaged
