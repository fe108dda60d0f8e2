"""Disturb every command many times and print a table: make faults.

    python tests/faults/long.py FOLDER [KILLS]

Results are kept in FOLDER/faults.jsonl. The same command resumes an interrupted series.
"""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import (
    Case,
    Undisturbed,
    cases,
    check_restart,
    fill_disk,
    kill,
    kill_and_truncate,
    make_data,
    run_undisturbed,
    start_twice,
)
from serving import kill_servers

Fault = Callable[[Case, Path, Undisturbed, int], bool]

EQUAL = "equal"
MISSED = "in time"  # the command had ended before the fault
EXPECTED = (EQUAL, MISSED)


def plan(kills: int) -> Iterator[tuple[str, str, Fault, int]]:
    """Yield command, name of the fault, fault and number of repetitions."""
    few = max(1, kills // 5)
    for name in ("prepare", "extract", "caption --jsonl", "train"):
        yield name, "killed", kill, kills
        yield name, "disk full", fill_disk, few
        yield name, "two at once", start_twice, few
    yield "train", "killed, newest checkpoint truncated", kill_and_truncate, few
    yield "train in three phases", "killed", kill, few
    for name in ("export", "export to a folder"):
        yield name, "killed", kill, kills // 2
        yield name, "disk full", fill_disk, max(1, few // 2)


class Record:
    """The results so far, one line of JSON for each fault."""

    def __init__(self, path: Path):
        self._path = path
        self.lines: list[dict[str, Any]] = list(map(json.loads, path.open())) if path.exists() else []

    def finished(self, command: str, fault: str) -> set[int]:
        """Return the numbers of finished repetitions."""
        return {line["number"] for line in self.lines if (line["command"], line["fault"]) == (command, fault)}

    def add(self, command: str, fault: str, number: int, outcome: str) -> None:
        """Add a result, and print it if it is a failure."""
        self.lines.append({"command": command, "fault": fault, "number": number, "outcome": outcome})
        with self._path.open("a") as file:
            file.write(json.dumps(self.lines[-1]) + "\n")
        if outcome not in EXPECTED:
            print(f"{command}, {fault}, {number}: {outcome}", file=sys.stderr)

    def table(self) -> Iterator[str]:
        """Yield the lines of a Markdown table."""
        yield "| command | fault | runs | fault struck | result equals an undisturbed run |"
        yield "|---|---|---|---|---|"
        counts: dict[tuple[str, str], Counter[str]] = {}
        for line in self.lines:
            counts.setdefault((line["command"], line["fault"]), Counter())[line["outcome"]] += 1
        for (command, fault), outcomes in counts.items():
            runs, equal = outcomes.total(), outcomes[EQUAL] + outcomes[MISSED]
            yield f"| {command} | {fault} | {runs} | {runs - outcomes[MISSED]} | {equal} |"


def main(folder: Path, kills: int = 50) -> int:
    """Run the unfinished part of the plan. Return the exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    record = Record(folder / "faults.jsonl")
    data, work = folder / "data", folder / "work"
    make_data(data)
    commands = cases(data)
    undisturbed: dict[str, Undisturbed] = {}
    if not (data / "trained" / "done").exists():
        shutil.rmtree(data / "trained", ignore_errors=True)
        undisturbed["train"] = run_undisturbed(commands["train"], data / "trained")
        (data / "trained" / "done").touch()
    for name, fault, disturb, repetitions in plan(kills):
        for number in sorted(set(range(repetitions)) - record.finished(name, fault)):
            case = commands[name]
            shutil.rmtree(work, ignore_errors=True)
            if name not in undisturbed:
                undisturbed[name] = run_undisturbed(case, work)
                shutil.rmtree(work)
            try:
                struck = disturb(case, work, undisturbed[name], number)
                check_restart(case, work, undisturbed[name])
                record.add(name, fault, number, EQUAL if struck else MISSED)
            except Exception as error:
                record.add(name, fault, number, f"{type(error).__name__}: {error}")
    image = sorted((data / "images" / "images").iterdir())[0]
    unfinished = sorted(set(range(kills)) - record.finished("serve", "killed"))
    for number in kill_servers(image, unfinished) if unfinished else ():
        record.add("serve", "killed", number, EQUAL)
    print(*record.table(), sep="\n")
    return int(any(line["outcome"] not in EXPECTED for line in record.lines))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), *map(int, sys.argv[2:])))
