"""Values that come from a file, held against the types of the dataclass that they are for."""

from dataclasses import fields
from types import UnionType
from typing import Any, TypeVar

_Instance = TypeVar("_Instance")


def typed(instance: _Instance) -> _Instance:
    """Return a dataclass if its fields have the types that are declared; whole numbers will do for floats.

    What is in a Literal or a container is not looked into.

    Raises:
        TypeError: if a field has another type.
        OverflowError: if a whole number is too large for a float.
    """
    record: Any = instance
    for field in fields(record):
        value = getattr(record, field.name)
        if field.type is float and isinstance(value, int):
            float(value)
        elif isinstance(field.type, type | UnionType) and not isinstance(value, field.type):
            raise TypeError(f"{field.name} is {str(value)[:40]!r}")
    return instance
