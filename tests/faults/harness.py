"""Commands that are disturbed at moments drawn at random, and what must come of their restart.

After a kill or on a full disk, what is there under a final name is whole; the restart completes; what it leaves equals
what an undisturbed run leaves, and a person's file beside it is as it was.
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
KILLED = [sys.executable, str(Path(__file__).with_name("killed.py"))]
SHOWTELL = [sys.executable, "-m", "showtell"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
EPOCHS = 2
SMALL = ["--epochs", EPOCHS, "--checkpoint-every", 2, "--sample-every", 5, "--batch-size", 8]
SMALL += ["--embedding-size", 16, "--units", 16, "--validation-images", 4]
PHASES = ["--grid", "--decoder", "show_attend_tell", "--scheduled-sampling", 0.25]
PHASES += ["--fine-tuning-epochs", 1, "--fine-tuned-layers", 2, "--fine-tuning-images", 8]
PHASES += ["--self-critical-epochs", 1, "--self-critical-images", 8, "--samples-per-image", 2]
DONE_BEFORE = ("exists already", "is there already", "the run is finished", "already captioned")


def run(*arguments: Any, limit: int | None = None, program: list[str] = SHOWTELL) -> subprocess.CompletedProcess:
    """Run a command to its end, perhaps so that no file can grow beyond `limit` bytes."""
    limited = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit)) if limit else None
    command = [*program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, preexec_fn=limited, timeout=300)


def weights_of(path: Path) -> dict[str, bytes]:
    """Return the weights of a .keras file, its optimizer's included."""
    found: dict[str, bytes] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item[()]).tobytes()

    with h5py.File(io.BytesIO(zipfile.ZipFile(path).read("model.weights.h5"))) as file:
        file.visititems(keep)
    return found


def bytes_of(*names: str) -> Callable[[Path], Any]:
    """Return a function that reads files of a folder."""
    return lambda folder: {name: (folder / name).read_bytes() for name in names}


def captions_of(folder: Path) -> Any:
    """Return the lines of a.jsonl; there is one an image."""
    lines = [json.loads(line) for line in (folder / "a.jsonl").read_text().splitlines()]
    return lines if len({line["path"] for line in lines}) == len(lines) else "an image has two lines"


def said_by(bundle: Path, images: Path) -> Any:
    """Return captions by a bundle, and their log-probabilities; two exports differ in the order of nodes in a graph."""
    from showtell import Captioner

    found = [result.captions[0] for result in Captioner.load(bundle).caption(sorted((images / "images").iterdir()))]
    return [(caption.text, round(caption.log_prob, 4)) for caption in found]


def training_of(folder: Path) -> Any:
    """Return the checkpoints' names, the weights, and each epoch's validation loss, of every phase of a run."""
    found = {}
    for best in (folder / "run").rglob("best.keras"):
        checkpoints = sorted((best.parent / "checkpoints").iterdir())
        history = [json.loads(line) for line in (best.parent / "history.jsonl").read_text().splitlines()]
        found[best.parent.name] = {
            "checkpoints": [path.name for path in checkpoints],
            "weights": weights_of(checkpoints[-1]),
            "best": weights_of(best),
            "history": [(record["epoch"], record["val_loss"], record["cider"]) for record in history],
        }
    return found


@dataclass
class Case:
    """A command that writes into a folder of its own.

    Attributes:
        name: what it is called in the table.
        arguments: the command; FOLDER stands for the folder.
        result: what of the folder's content has to be equal.
        begin: what lies in the folder before, by name.
        resume: another command for the restart, once there is a file of this pattern.
    """

    name: str
    arguments: list[Any]
    result: Callable[[Path], Any]
    begin: dict[str, str] = field(default_factory=dict)
    resume: tuple[str, list[Any]] | None = None

    def command(self, folder: Path) -> list[str]:
        """Return the arguments for a folder."""
        return [str(argument).replace("FOLDER", str(folder)) for argument in self.arguments]

    def prepare(self, folder: Path) -> Path:
        """Make the folder, with a person's note in it."""
        folder.mkdir(parents=True)
        for name, text in {"notes.txt": NOTE, **self.begin}.items():
            (folder / name).write_text(text)
        return folder

    def restart(self, folder: Path) -> subprocess.CompletedProcess:
        """Run the command again, or what goes on where it stopped."""
        if self.resume and any(folder.glob(self.resume[0])):
            return run(*(str(argument).replace("FOLDER", str(folder)) for argument in self.resume[1]))
        return run(*self.command(folder))


def cases(data: Path) -> dict[str, Case]:
    """Return the commands. `data` has images/, made by tutorial-data, and, for export, trained/run."""
    images = data / "images"
    first = sorted((images / "images").iterdir())[0]
    mine = json.dumps({"path": str(first), "caption": "my own words"}) + "\n"
    train = ["train", "-o", "FOLDER/run", "--images", images, *SMALL]
    resume = ("run/checkpoints/step-*.keras", ["train", "-o", "FOLDER/run", "--resume"])
    found = [
        Case(
            "prepare",
            ["prepare", "-o", "FOLDER/c.h5", "--captions", images],
            bytes_of("c.h5", "c_vocab.json"),
        ),
        Case("extract", ["extract", images, "-o", "FOLDER/f.npy"], bytes_of("f.npy", "f.json")),
        Case("caption --jsonl", ["caption", images, "--jsonl", "FOLDER/a.jsonl"], captions_of, {"a.jsonl": mine}),
        Case("train", train, training_of, resume=resume),
        Case("train in three phases", [*train, *PHASES], training_of, resume=resume),
        Case(
            "export",
            ["export", data / "trained" / "run", "-o", "FOLDER/b.zip"],
            lambda folder: said_by(folder / "b.zip", images),
        ),
        Case(
            "export to a folder",
            ["export", data / "trained" / "run", "-o", "FOLDER/b"],
            lambda folder: said_by(folder / "b", images),
        ),
    ]
    return {case.name: case for case in found}


def make_data(data: Path, images: int = 20) -> None:
    """Make what `cases` needs, but for the run."""
    if not (data / "images" / "metadata.csv").exists():
        run("tutorial-data", data / "images", "--images", images).check_returncode()


@dataclass(frozen=True)
class Undisturbed:
    """What a command does when nothing disturbs it: its result, changes to files, seconds from the first of them on."""

    result: Any
    changes: int
    seconds: float
    largest: int


def undisturbed(case: Case, folder: Path) -> Undisturbed:
    """Run a command as it should be."""
    case.prepare(folder)
    process = start(case, folder, 0)
    began = await_change(folder, process)
    said = process.communicate()[1]
    seconds = time.monotonic() - began
    require(process.returncode == 0, f"{case.name} failed: {said}")
    changes = int(re.findall(r"changes: (\d+)", said)[-1])
    largest = max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Undisturbed(case.result(folder), changes, seconds, largest)


def start(case: Case, folder: Path, at: int) -> subprocess.Popen:
    """Start a command that kills itself before its change `at`, or not if that is 0."""
    command = [*KILLED, str(folder), str(at), *case.command(folder)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=ENVIRONMENT)


def await_change(folder: Path, process: subprocess.Popen) -> float:
    """Return the time when a process begins to write into the folder, or has ended."""
    before = len(list(folder.iterdir()))
    while process.poll() is None and len(list(folder.iterdir())) <= before:
        time.sleep(0.002)
    return time.monotonic()


def require(holds: bool, message: str) -> None:
    """Raise AssertionError with a message unless something holds; long values are not printed."""
    if not holds:
        raise AssertionError(message)


def kill(case: Case, folder: Path, calm: Undisturbed, number: int) -> bool:
    """Kill a command, by turns before a change to a file and at a time; return whether it was still alive."""
    chance = random.Random(f"{SEED} {case.name} {number}")
    case.prepare(folder)
    if number % 2:
        process = start(case, folder, chance.randint(1, calm.changes))
    else:
        process = start(case, folder, 0)
        await_change(folder, process)
        time.sleep(chance.uniform(0, calm.seconds))
        process.kill()
    process.communicate(timeout=300)
    return process.returncode == -9


def fill_disk(case: Case, folder: Path, calm: Undisturbed, number: int) -> bool:
    """Let no file grow beyond a size; return whether that was too little."""
    chance = random.Random(f"{SEED} {case.name} {number}")
    case.prepare(folder)
    least = len("".join(case.begin.values())) + 1
    done = run(*case.command(folder), limit=round(least * math.exp(chance.uniform(0, math.log(calm.largest / least)))))
    if done.returncode == 0:
        return False
    last = done.stderr.splitlines()[-1]
    require(done.returncode == 2, f"{case.name} ended with {done.returncode}: {done.stderr}")
    require("Traceback" not in done.stderr and "Error" not in done.stderr, done.stderr)
    require(last.startswith("error: /") and last.endswith(": File too large"), last)  # it names the file
    return True


def kill_and_truncate(case: Case, folder: Path, calm: Undisturbed, number: int) -> bool:
    """Kill a training that has two checkpoints, and cut the newest off anywhere."""
    chance = random.Random(f"{SEED} {case.name} {number}")
    process = start(case, case.prepare(folder), 0)
    checkpoints = folder / "run" / "checkpoints"
    while process.poll() is None and len(list(checkpoints.glob("step-*.keras"))) < 2:
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.05 * calm.seconds))
    process.kill()
    process.communicate(timeout=300)
    history = folder / "run" / "history.jsonl"
    if history.exists() and len(history.read_text().splitlines()) == EPOCHS:  # nothing reads a checkpoint any more
        return False
    newest = max(checkpoints.glob("step-*.keras"))
    os.truncate(newest, chance.randrange(newest.stat().st_size))
    done = case.restart(folder)
    require(done.returncode == 0 and f"note: {newest}: not a checkpoint" in done.stderr, done.stderr)
    return True


def twice(case: Case, folder: Path, calm: Undisturbed, number: int) -> bool:
    """Start a command, and start it again at a random moment; return whether one of the two was refused."""
    chance = random.Random(f"{SEED} {case.name} {number}")
    first = start(case, case.prepare(folder), 0)
    time.sleep(chance.uniform(0, calm.seconds))  # both take the same time to begin to write
    both = [first, start(case, folder, 0)]
    said = [process.communicate(timeout=300)[1] for process in both]
    statuses = [process.returncode for process in both]
    require(0 in statuses and "Traceback" not in "".join(said), "\n".join(said))
    refused = ["another showtell is writing it" in text for text in said]
    for status, text, locked in zip(statuses, said, refused, strict=True):
        require(status == 0 or locked or any(reason in text for reason in DONE_BEFORE), text)
    return any(refused)


def check_whole(folder: Path) -> None:
    """Raise AssertionError if there is half a file under a final name."""
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
                *whole, _ = path.read_text().split("\n")
                list(map(json.loads, whole))
    if (folder / "b").exists():
        Bundle.load(folder / "b")


def check_restart(case: Case, folder: Path, calm: Undisturbed) -> None:
    """Raise AssertionError unless a disturbed command can be restarted, and leaves what an undisturbed one does."""
    check_whole(folder)
    done = case.restart(folder)
    fine = done.returncode == 0 or any(reason in done.stderr for reason in DONE_BEFORE)
    require(fine and "Traceback" not in done.stderr, f"{case.name} in {folder}: the restart failed: {done.stderr}")
    require(case.result(folder) == calm.result, f"{case.name} in {folder}: the restart's result differs")
    require((folder / "notes.txt").read_text() == NOTE, f"{folder}: the note is lost")
    left = [path for path in folder.rglob("*") if path.name.startswith(".") or ".partial" in path.name]
    require(not left or done.returncode == 2, f"{case.name} leaves {left}")
