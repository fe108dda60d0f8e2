"""Text for messages."""


def plural(count: int, noun: str) -> str:
    """Return a count and its noun, such as "1 image" or "3 images"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def one_line(error: Exception) -> str:
    """Return the message of an exception of another library on one line."""
    return " ".join(str(error).split())
