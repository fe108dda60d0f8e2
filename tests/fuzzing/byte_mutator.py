"""Damage that knows nothing of a format (`mutate`), and damage that keeps JSON valid (`alter_json`)."""

import json
from typing import Any

import numpy as np

STRANGE = (None, True, 0, -1, 1, 2.5, 7, 10**5, 10**9, 10**30, -(10**400), 1e308, float("nan"), float("inf"))
STRANGE += ("", "a", "\0", "\ud800", "x" * 10_000, [], [[]], {}, [0], ["a"], {"a": 0})


def mutate(content: bytes, generator: np.random.Generator) -> bytes:
    """Return damaged content: bytes are changed, deleted, inserted or repeated, or the end is cut off."""
    data = bytearray(content)
    for _ in range(int(generator.integers(1, 9))):
        start = int(generator.integers(0, len(data) + 1))
        length = int(generator.integers(1, 1 + min(64, len(data) // 2 + 1)))
        match generator.integers(0, 6):
            case 0 | 1 if start < len(data):
                data[start] = int(generator.integers(0, 256))
            case 2:
                del data[start : start + length]
            case 3:
                data[start:start] = generator.bytes(length)
            case 4:
                data[start:start] = data[start : start + length]
            case 5 if generator.random() < 0.2:
                del data[start:]
    return bytes(data)


def alter_json(content: bytes, generator: np.random.Generator) -> bytes:
    """Return valid JSON in which one value is replaced or removed."""
    root = [json.loads(content)]
    values: list[tuple[Any, Any]] = []
    containers: list[Any] = [root]
    while containers:
        container = containers.pop()
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            values.append((container, key))
            if isinstance(container[key], dict | list):
                containers.append(container[key])
    container, key = values[generator.integers(len(values))]
    if generator.random() < 0.1 and container is not root:
        del container[key]
    else:
        container[key] = STRANGE[generator.integers(len(STRANGE))]
    return json.dumps(root[0]).encode()
