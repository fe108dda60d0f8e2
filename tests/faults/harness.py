"""Disturb commands at random moments, and check that the same command then completes the work.

After a kill or on a full disk, every file under a final name is complete. The restarted command succeeds. Its result
equals that of an undisturbed command, and other files in the folder are unchanged.
"""

import io
import json
import math
import os
import random
import re
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

SEED = 6
NOTE = "bought milk\n"
SELF_KILL = [sys.executable, str(Path(__file__).with_name("self_kill.py"))]
SHOWTELL = [sys.executable, "-m", "showtell"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
EPOCHS = 2
SMALL = ["--epochs", EPOCHS, "--checkpoint-every", 2, "--sample-every", 5, "--batch-size", 8]
SMALL += ["--embedding-size", 16, "--units", 16, "--validation-images", 4]
PHASES = ["--grid", "--decoder", "show_attend_tell", "--scheduled-sampling", 0.25]
PHASES += ["--fine-tuning-epochs", 1, "--fine-tuned-layers", 2, "--fine-tuning-images", 8]
PHASES += ["--self-critical-epochs", 1, "--self-critical-images", 8, "--samples-per-image", 2]
# Messages of a command that finds its work done.
DONE_BEFORE = ("exists already", "already exists", "the run is finished", "already captioned")


def run(*arguments: Any, max_file_size: int | None = None) -> subprocess.CompletedProcess:
    """Run a command of showtell to its end.

    Args:
        arguments: the command and its arguments.
        max_file_size: size in bytes beyond which no file can grow, as on a full disk.
    """
    limits = (max_file_size, max_file_size)
    set_limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, limits) if max_file_size else None
    command = [*SHOWTELL, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, preexec_fn=set_limit, timeout=300)


def read_weights(path: Path) -> dict[str, bytes]:
    """Return the weights of a .keras file, including those of the optimizer."""
    weights: dict[str, bytes] = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            weights[name] = np.asarray(item[()]).tobytes()

    with h5py.File(io.BytesIO(zipfile.ZipFile(path).read("model.weights.h5"))) as file:
        file.visititems(add)
    return weights


def file_reader(*names: str) -> Callable[[Path], Any]:
    """Return a function that reads these files of a folder."""
    return lambda folder: {name: (folder / name).read_bytes() for name in names}


def read_captions(folder: Path) -> Any:
    """Return the lines of a.jsonl, which has one line per image."""
    lines = [json.loads(line) for line in (folder / "a.jsonl").read_text().splitlines()]
    return lines if len({line["path"] for line in lines}) == len(lines) else "an image has two lines"


def caption_with(bundle: Path, images: Path) -> Any:
    """Return the captions of a bundle and their log-probabilities. Two exports may order graph nodes differently."""
    from showtell import Captioner

    captions = Captioner.load(bundle).caption(sorted((images / "images").iterdir()))
    return [(result.captions[0].text, round(result.captions[0].log_prob, 4)) for result in captions]


def read_training(folder: Path) -> Any:
    """Return checkpoint names, weights and the validation loss of each epoch, for every phase of a run."""
    phases = {}
    for best in (folder / "run").rglob("best.keras"):
        checkpoints = sorted((best.parent / "checkpoints").iterdir())
        history = [json.loads(line) for line in (best.parent / "history.jsonl").read_text().splitlines()]
        phases[best.parent.name] = {
            "checkpoints": [path.name for path in checkpoints],
            "weights": read_weights(checkpoints[-1]),
            "best": read_weights(best),
            "history": [(record["epoch"], record["val_loss"], record["cider"]) for record in history],
        }
    return phases


@dataclass
class Case:
    """A command that writes into a folder.

    Attributes:
        name: name in the table.
        arguments: the command; FOLDER stands for the folder.
        result: reads what must be equal in two folders.
        existing_files: name -> text of files that exist before.
        resume: a file pattern, and the command that replaces `arguments` on a restart once such a file exists.
    """

    name: str
    arguments: list[Any]
    result: Callable[[Path], Any]
    existing_files: dict[str, str] = field(default_factory=dict)
    resume: tuple[str, list[Any]] | None = None

    def command(self, folder: Path) -> list[str]:
        """Return the arguments for a folder."""
        return [str(argument).replace("FOLDER", str(folder)) for argument in self.arguments]

    def prepare(self, folder: Path) -> Path:
        """Create the folder with the existing files and a user's note."""
        folder.mkdir(parents=True)
        for name, text in {"notes.txt": NOTE, **self.existing_files}.items():
            (folder / name).write_text(text)
        return folder

    def restart(self, folder: Path) -> subprocess.CompletedProcess:
        """Run the command again, or the command that resumes it."""
        if self.resume and any(folder.glob(self.resume[0])):
            return run(*(str(argument).replace("FOLDER", str(folder)) for argument in self.resume[1]))
        return run(*self.command(folder))


def cases(data: Path) -> dict[str, Case]:
    """Return the commands by name.

    Args:
        data: folder with images/, made by `make_data`, and, for export, a training run in trained/run.
    """
    images = data / "images"
    first = sorted((images / "images").iterdir())[0]
    own_caption = json.dumps({"path": str(first), "caption": "my own words"}) + "\n"
    train = ["train", "-o", "FOLDER/run", "--images", images, *SMALL]
    resume = ("run/checkpoints/step-*.keras", ["train", "-o", "FOLDER/run", "--resume"])
    all_cases = [
        Case(
            "prepare",
            ["prepare", "-o", "FOLDER/c.h5", "--captions", images],
            file_reader("c.h5", "c_vocab.json"),
        ),
        Case("extract", ["extract", images, "-o", "FOLDER/f.npy"], file_reader("f.npy", "f.json")),
        Case(
            "caption --jsonl", ["caption", images, "--jsonl", "FOLDER/a.jsonl"], read_captions, {"a.jsonl": own_caption}
        ),
        Case("train", train, read_training, resume=resume),
        Case("train in three phases", [*train, *PHASES], read_training, resume=resume),
        Case(
            "export",
            ["export", data / "trained" / "run", "-o", "FOLDER/b.zip"],
            lambda folder: caption_with(folder / "b.zip", images),
        ),
        Case(
            "export to a folder",
            ["export", data / "trained" / "run", "-o", "FOLDER/b"],
            lambda folder: caption_with(folder / "b", images),
        ),
    ]
    return {case.name: case for case in all_cases}


def make_data(data: Path, images: int = 20) -> None:
    """Make the images for `cases`."""
    if not (data / "images" / "metadata.csv").exists():
        run("tutorial-data", data / "images", "--images", images).check_returncode()


@dataclass(frozen=True)
class Undisturbed:
    """What a command does without a fault.

    Attributes:
        result: the result of the case.
        changes: number of changes to files.
        seconds: time from the first change to the end.
        largest: size of the largest file in bytes.
    """

    result: Any
    changes: int
    seconds: float
    largest: int


def run_undisturbed(case: Case, folder: Path) -> Undisturbed:
    """Run a command without a fault."""
    case.prepare(folder)
    process = start(case, folder, 0)
    began = await_change(folder, process)
    errors = process.communicate()[1]
    seconds = time.monotonic() - began
    require(process.returncode == 0, f"{case.name} failed: {errors}")
    changes = int(re.findall(r"changes: (\d+)", errors)[-1])
    largest = max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Undisturbed(case.result(folder), changes, seconds, largest)


def start(case: Case, folder: Path, kill_at: int) -> subprocess.Popen:
    """Start a command that kills itself before this change to a file; 0 for never."""
    command = [*SELF_KILL, str(folder), str(kill_at), *case.command(folder)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=ENVIRONMENT)


def await_change(folder: Path, process: subprocess.Popen) -> float:
    """Wait until a process creates a file in the folder, or ends. Return the time."""
    before = len(list(folder.iterdir()))
    while process.poll() is None and len(list(folder.iterdir())) <= before:
        time.sleep(0.002)
    return time.monotonic()


def require(condition: bool, message: str) -> None:
    """Raise AssertionError unless a condition holds. Unlike assert, pytest does not print the compared values."""
    if not condition:
        raise AssertionError(message)


def kill(case: Case, folder: Path, undisturbed: Undisturbed, number: int) -> bool:
    """Kill a command before a random change to a file (odd numbers) or at a random time (even numbers).

    Returns:
        Whether the command was still running.
    """
    generator = random.Random(f"{SEED} {case.name} {number}")
    case.prepare(folder)
    if number % 2:
        process = start(case, folder, generator.randint(1, undisturbed.changes))
    else:
        process = start(case, folder, 0)
        await_change(folder, process)
        time.sleep(generator.uniform(0, undisturbed.seconds))
        process.kill()
    process.communicate(timeout=300)
    return process.returncode == -9


def fill_disk(case: Case, folder: Path, undisturbed: Undisturbed, number: int) -> bool:
    """Run a command while no file can grow beyond a random size. Return whether a file reached the limit."""
    generator = random.Random(f"{SEED} {case.name} {number}")
    case.prepare(folder)
    smallest = len("".join(case.existing_files.values())) + 1
    limit = round(smallest * math.exp(generator.uniform(0, math.log(undisturbed.largest / smallest))))
    done = run(*case.command(folder), max_file_size=limit)
    if done.returncode == 0:
        return False
    last = done.stderr.splitlines()[-1]
    require(done.returncode == 2, f"{case.name} ended with {done.returncode}: {done.stderr}")
    require("Traceback" not in done.stderr and "Error" not in done.stderr, done.stderr)
    require(last.startswith("error: /") and last.endswith(": File too large"), last)  # the error names the file
    return True


def kill_and_truncate(case: Case, folder: Path, undisturbed: Undisturbed, number: int) -> bool:
    """Kill a training run that has two checkpoints, and truncate the newest one at a random position.

    Returns:
        Whether the run was unfinished.
    """
    generator = random.Random(f"{SEED} {case.name} {number}")
    process = start(case, case.prepare(folder), 0)
    checkpoints = folder / "run" / "checkpoints"
    while process.poll() is None and len(list(checkpoints.glob("step-*.keras"))) < 2:
        time.sleep(0.002)
    time.sleep(generator.uniform(0, 0.05 * undisturbed.seconds))
    process.kill()
    process.communicate(timeout=300)
    history = folder / "run" / "history.jsonl"
    if history.exists() and len(history.read_text().splitlines()) == EPOCHS:  # no command reads the checkpoints again
        return False
    newest = max(checkpoints.glob("step-*.keras"))
    os.truncate(newest, generator.randrange(newest.stat().st_size))
    done = case.restart(folder)
    reported = re.search(rf"^warning: {re.escape(str(newest))}: .*checkpoint", done.stderr, re.MULTILINE)
    require(done.returncode == 0 and reported is not None, done.stderr)
    return True


def start_twice(case: Case, folder: Path, undisturbed: Undisturbed, number: int) -> bool:
    """Start a command, and start it again at a random time. Return whether one of the two was refused."""
    generator = random.Random(f"{SEED} {case.name} {number}")
    first = start(case, case.prepare(folder), 0)
    time.sleep(generator.uniform(0, undisturbed.seconds))  # both need the same time until their first change
    processes = [first, start(case, folder, 0)]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    statuses = [process.returncode for process in processes]
    require(0 in statuses and "Traceback" not in "".join(errors), "\n".join(errors))
    refused = ["another showtell process is writing it" in text for text in errors]
    for status, text, is_refused in zip(statuses, errors, refused, strict=True):
        require(status == 0 or is_refused or any(message in text for message in DONE_BEFORE), text)
    return any(refused)


def check_complete(folder: Path) -> None:
    """Raise AssertionError if a file under a final name is incomplete."""
    from showtell.data import read_captions_h5
    from showtell.inference.bundle import Bundle

    for path in folder.rglob("*"):
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        match path.suffix:
            case ".h5":
                read_captions_h5(path)
            case ".npy":
                np.load(path)
            case ".json":
                json.loads(path.read_text())
            case ".keras":
                require(zipfile.ZipFile(path).testzip() is None, f"{path} is damaged")
            case ".zip":
                Bundle.load(path)
            case ".jsonl" if not path.name.endswith(".partial.jsonl"):
                *complete, _ = path.read_text().split("\n")
                list(map(json.loads, complete))
    if (folder / "b").exists():
        Bundle.load(folder / "b")


def check_restart(case: Case, folder: Path, undisturbed: Undisturbed) -> None:
    """Restart a disturbed command. Raise AssertionError unless its result equals that of an undisturbed command."""
    check_complete(folder)
    done = case.restart(folder)
    succeeded = done.returncode == 0 or any(message in done.stderr for message in DONE_BEFORE)
    require(succeeded and "Traceback" not in done.stderr, f"{case.name} in {folder}: restart failed: {done.stderr}")
    require(case.result(folder) == undisturbed.result, f"{case.name} in {folder}: the result of the restart differs")
    require((folder / "notes.txt").read_text() == NOTE, f"{folder}: the note was changed")
    left_over = [path for path in folder.rglob("*") if path.name.startswith(".") or ".partial" in path.name]
    require(not left_over or done.returncode == 2, f"{case.name} leaves {left_over}")
