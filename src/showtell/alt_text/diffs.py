"""Diffs for `git apply` and `patch -p1`."""

import re
from collections.abc import Iterator, Sequence

CONTEXT_LINES = 3
_UNSAFE_NAME = re.compile(rb'[\0- "\\\x7f]')
_ESCAPES = {byte: f"\\{byte:03o}".encode() for byte in (*range(32), ord('"'), ord("\\"), 127)}


def unified_diff(name: bytes, old: bytes, new: bytes) -> bytes:
    """Return a unified diff of two versions of a file, in time proportional to their size.

    Args:
        name: the name of the file.
        old: the old content.
        new: the new content. Changes are within lines, so both have the same number of lines.
    """
    # In a diff, only a line feed ends a line.
    old_lines, new_lines = (re.findall(rb"[^\n]*+\n|[^\n]++", content) for content in (old, new))
    changed = [number for number, pair in enumerate(zip(old_lines, new_lines, strict=True)) if pair[0] != pair[1]]
    parts = [b"--- %b\n+++ %b\n" % (_quote(b"a/" + name), _quote(b"b/" + name))] if changed else []
    for start, end in _hunks(changed, len(old_lines)):
        parts.append(b"@@ -%d,%d +%d,%d @@\n" % (start + 1, end - start, start + 1, end - start))
        parts += _hunk_lines(old_lines[start:end], new_lines[start:end])
    return b"".join(parts)


def _hunks(changed: Sequence[int], lines: int) -> Iterator[tuple[int, int]]:
    """Yield the first line of each hunk and the line after its last one. Changes near to each other share a hunk."""
    for number, line in enumerate(changed):
        if number == 0 or line - changed[number - 1] > 2 * CONTEXT_LINES:
            start = max(0, line - CONTEXT_LINES)
        if line == changed[-1] or changed[number + 1] - line > 2 * CONTEXT_LINES:
            yield start, min(lines, line + CONTEXT_LINES + 1)


def _hunk_lines(old: Sequence[bytes], new: Sequence[bytes]) -> Iterator[bytes]:
    added: list[bytes] = []
    for before, after in zip(old, new, strict=True):
        if before == after:
            yield from added
            added.clear()
            yield _line(b" ", before)
        else:
            yield _line(b"-", before)
            added.append(_line(b"+", after))
    yield from added


def _line(mark: bytes, line: bytes) -> bytes:
    return mark + line if line.endswith(b"\n") else mark + line + b"\n\\ No newline at end of file\n"


def _quote(name: bytes) -> bytes:
    """Return a name as a C string if it contains characters that end a name in a diff."""
    if not _UNSAFE_NAME.search(name):
        return name
    return b'"' + b"".join(_ESCAPES.get(byte, bytes([byte])) for byte in name) + b'"'
