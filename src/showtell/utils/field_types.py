"""Type checks for dataclasses whose values come from a file."""

from collections.abc import Mapping
from dataclasses import fields
from reprlib import repr as shortened
from types import UnionType
from typing import Any, TypeVar

_Instance = TypeVar("_Instance")


def check_types(kind: type, values: Mapping[str, Any]) -> None:
    """Check values against the declared types of a dataclass's fields.

    An int is accepted for a float, but a bool is not accepted for a number. Literals and generic types such as
    `tuple[int, ...]` are not checked.

    Args:
        kind: the dataclass.
        values: field name -> value. Missing fields and other names are ignored.

    Raises:
        TypeError: if a value has another type.
    """
    for field in fields(kind):
        if field.name not in values or not isinstance(field.type, type | UnionType):
            continue
        value = values[field.name]
        expected = int | float if field.type is float else field.type
        if not isinstance(value, expected) or (isinstance(value, bool) and field.type is not bool):
            name = getattr(field.type, "__name__", str(field.type))
            raise TypeError(f"{field.name} is {shortened(value)}; it must be of type {name}")


def check_field_types(instance: _Instance) -> _Instance:
    """Return a dataclass instance after checking the types of its fields; see `check_types`.

    Raises:
        TypeError: if a field has another type.
    """
    check_types(type(instance), vars(instance))
    return instance
