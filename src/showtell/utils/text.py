"""Text for messages."""


def plural(count: int, noun: str) -> str:
    """Return a count and its noun, such as "1 image" or "3 images"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
