"""From a command to a caption, once: `showtell caption` against models in transformers loaded from the same disk.

python benchmarks/cold_start.py [IMAGE]
"""

import statistics
import sys
import tempfile
from pathlib import Path

import _peers
from _measure import run, tell

TOKENS = 12  # what a caption of the bundle that ships has, roughly, with its end
WANTED = {"vit-gpt2": 8, "BLIP-base": 12}
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    image = sys.argv[1] if len(sys.argv) > 1 else str(next(Path("examples").glob("*.jpg")))
    with tempfile.TemporaryDirectory() as folder:
        commands = {"showtell": [sys.executable, "-m", "showtell", "caption", image]}
        for name in _peers.NAMES:
            program, path = _peers.__file__, str(Path(folder, name))
            # Not in this process: what memory it held when it starts another is counted as the other's.
            run([sys.executable, program, "make", name, path])
            commands[name] = [sys.executable, program, "caption", path, str(TOKENS), image]
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for measured in [False, *[True] * ROUNDS]:
            for name, command in commands.items():
                taken = run(command)
                if measured:
                    found[name].append(taken)
    seconds = {name: statistics.median(taken for taken, _ in runs) for name, runs in found.items()}
    memory = {name: max(held for _, held in runs) for name, runs in found.items()}
    ours = f"{seconds['showtell']:.2f} s, {memory['showtell']:.0f} MB"
    for name, wanted in WANTED.items():
        theirs = f"{seconds[name]:.2f} s, {memory[name]:.0f} MB"
        ratio = f"{seconds[name] / seconds['showtell']:.1f} x"
        tell(f"cold start, against {name}", ours, theirs, ratio, f"{wanted} x")
    tell("cold start, in seconds", ours, "", "", "0.6 s, 250 MB")


if __name__ == "__main__":
    main()
