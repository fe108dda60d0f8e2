"""Values that come from a file, held against the types of the dataclass that they are for."""

from dataclasses import fields
from types import UnionType
from typing import Any, TypeVar

_Instance = TypeVar("_Instance")


def check_field_types(instance: _Instance) -> _Instance:
    """Return a dataclass if its fields have the types that are declared.

    A whole number will do for a float, but no bool for a number. Literals and containers are not looked into.
    Raises TypeError if a field has another type.
    """
    record: Any = instance
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, bool):
            fits = field.type is bool
        elif field.type is float:
            fits = isinstance(value, int | float)
        else:
            fits = not isinstance(field.type, type | UnionType) or isinstance(value, field.type)
        if not fits:
            raise TypeError(f"{field.name} is {str(value)[:40]!r}")
    return instance
