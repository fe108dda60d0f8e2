"""A reader of the protobuf wire format (https://protobuf.dev/programming-guides/encoding).

The package `onnx` reads models too, but captioning does not depend on it.
"""

from collections.abc import Iterator

_VARINT, _LENGTH = 0, 2
_FIXED_SIZES = {1: 8, 5: 4}

# Field number, and either the value of a varint and -1, or start and end of the bytes of another value.
Field = tuple[int, int, int]


class FieldReader:
    """Reads the fields of messages, and counts them.

    Args:
        content: the bytes that contain the messages.
        max_fields: maximum number of fields that are read from all messages.
    """

    def __init__(self, content: bytes, max_fields: int):
        self.content = content
        self._fields_left = max_fields

    def read(self, start: int, end: int) -> Iterator[Field]:
        """Yield the fields of the message in `content[start:end]`.

        Raises:
            ValueError: if the message is damaged, or has too many fields.
        """
        # Models have thousands of fields, so numbers of one byte are read without a call.
        content = self.content
        while start < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise ValueError("too many fields")
            key, start = (key, start + 1) if (key := content[start]) < 128 else self._read_varint(start, end)
            wire_type = key & 7
            if wire_type in _FIXED_SIZES:
                value = _FIXED_SIZES[wire_type]
            elif wire_type not in (_VARINT, _LENGTH) or start >= end:
                raise ValueError("a field is cut off, or of an unknown type")
            else:
                value, start = (value, start + 1) if (value := content[start]) < 128 else self._read_varint(start, end)
            if wire_type == _VARINT:
                yield key >> 3, value, -1
                continue
            if value > end - start:
                raise ValueError("a field is cut off")
            yield key >> 3, start, start + value
            start += value

    def _read_varint(self, start: int, end: int) -> tuple[int, int]:
        """Return a number of 7 bits per byte, lowest first, and the position after it."""
        value = 0
        for position in range(start, min(start + 10, end)):
            byte = self.content[position]
            value |= (byte & 127) << 7 * (position - start)
            if byte < 128:
                return value, position + 1
        raise ValueError("a number is cut off")
