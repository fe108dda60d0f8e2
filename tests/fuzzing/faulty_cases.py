"""Cases that fail in every way, to test the runner."""

import os
import time
from pathlib import Path

import numpy as np
from runner import Case

from showtell.errors import ShowtellError


def faulty_case(folder: Path) -> Case:
    """Fail in the way of the case's number."""
    faults = [_succeed, _refuse, _exceed_time, _exceed_memory, _raise_exception, os.abort, _hang, _succeed]

    def case(generator: np.random.Generator) -> None:
        _, number = generator.bit_generator.seed_seq.entropy  # type: ignore[attr-defined]
        (folder / "file").write_text(str(number))
        faults[number]()

    return case


def _succeed() -> None:
    pass


def _refuse() -> None:
    raise ShowtellError("one line")


def _exceed_time() -> None:
    began = time.process_time()
    while time.process_time() - began < 0.6:
        pass


def _exceed_memory() -> None:
    bytearray(b"x") * (100 << 20)


def _raise_exception() -> None:
    raise ZeroDivisionError


def _hang() -> None:
    time.sleep(60)
