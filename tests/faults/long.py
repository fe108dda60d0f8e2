"""Disturb every command many times, and print a table: make faults.

python tests/faults/long.py FOLDER [KILLS]

What was done is kept in FOLDER/faults.jsonl, and not done again.
"""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import Case, Undisturbed, cases, check_restart, fill_disk, kill, kill_and_truncate, make_data, twice
from harness import undisturbed as run_undisturbed
from serving import kill_servers

Fault = Callable[[Case, Path, Undisturbed, int], bool]


def plan(kills: int) -> Iterator[tuple[str, str, Fault, int]]:
    """Yield each command and fault with how often."""
    few = max(1, kills // 5)
    for name in ("prepare", "extract", "caption --jsonl", "train"):
        yield name, "killed", kill, kills
        yield name, "disk full", fill_disk, few
        yield name, "two at a time", twice, few
    yield "train", "killed, and its newest checkpoint cut off", kill_and_truncate, few
    yield "train in three phases", "killed", kill, few
    for name in ("export", "export to a folder"):
        yield name, "killed", kill, kills // 2
        yield name, "disk full", fill_disk, max(1, few // 2)


class Record:
    """What was found so far, a line for each disturbance."""

    def __init__(self, path: Path):
        self._path = path
        self.lines: list[dict[str, Any]] = list(map(json.loads, path.open())) if path.exists() else []

    def done(self, command: str, fault: str) -> set[int]:
        """Return the numbers that were done."""
        return {line["number"] for line in self.lines if (line["command"], line["fault"]) == (command, fault)}

    def add(self, command: str, fault: str, number: int, outcome: str) -> None:
        """Keep a line, and print it unless all is well."""
        self.lines.append({"command": command, "fault": fault, "number": number, "outcome": outcome})
        with self._path.open("a") as file:
            file.write(json.dumps(self.lines[-1]) + "\n")
        if outcome not in ("equal", "in time"):
            print(f"{command}, {fault}, {number}: {outcome}", file=sys.stderr)

    def table(self) -> Iterator[str]:
        """Yield the lines of a table in Markdown."""
        yield "| command | fault | times | it struck | the end equals that of an undisturbed run |"
        yield "|---|---|---|---|---|"
        found: dict[tuple[str, str], Counter[str]] = {}
        for line in self.lines:
            found.setdefault((line["command"], line["fault"]), Counter())[line["outcome"]] += 1
        for (command, fault), outcomes in found.items():
            times, equal = outcomes.total(), outcomes["equal"] + outcomes["in time"]
            yield f"| {command} | {fault} | {times} | {times - outcomes['in time']} | {equal} |"


def main(folder: Path, kills: int = 50) -> int:
    """Do what is left to do; return the exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    record = Record(folder / "faults.jsonl")
    data, work = folder / "data", folder / "work"
    make_data(data)
    commands = cases(data)
    calm: dict[str, Undisturbed] = {}
    if not (data / "trained" / "done").exists():
        shutil.rmtree(data / "trained", ignore_errors=True)
        calm["train"] = run_undisturbed(commands["train"], data / "trained")
        (data / "trained" / "done").touch()
    for name, fault, strike, times in plan(kills):
        for number in sorted(set(range(times)) - record.done(name, fault)):
            case = commands[name]
            shutil.rmtree(work, ignore_errors=True)
            if name not in calm:
                calm[name] = run_undisturbed(case, work)
                shutil.rmtree(work)
            try:
                struck = strike(case, work, calm[name], number)
                check_restart(case, work, calm[name])
                record.add(name, fault, number, "equal" if struck else "in time")
            except Exception as error:
                record.add(name, fault, number, f"{type(error).__name__}: {error}")
    image = sorted((data / "images" / "images").iterdir())[0]
    left = sorted(set(range(kills)) - record.done("serve", "killed"))
    for number in kill_servers(image, left) if left else ():
        record.add("serve", "killed", number, "equal")
    print(*record.table(), sep="\n")
    return int(any(line["outcome"] not in ("equal", "in time") for line in record.lines))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), *map(int, sys.argv[2:])))
