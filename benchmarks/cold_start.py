"""Compare the time from command to caption with models in transformers, loaded from the same disk.

python benchmarks/cold_start.py [IMAGE]
"""

import statistics
import sys
import tempfile
from pathlib import Path

import _peers
from _measure import EXAMPLES, make_parser, print_result, run_process

TOKENS = 12  # about the length of a caption of the shipped bundle, including the end token
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("image", nargs="?", default=min(EXAMPLES.glob("*.jpg")), help="default: one of examples/")
    image = str(parser.parse_args().image)
    with tempfile.TemporaryDirectory() as folder:
        commands = {"showtell": [sys.executable, "-m", "showtell", "caption", image]}
        for name in _peers.NAMES:
            program, path = _peers.__file__, str(Path(folder, name))
            # Not in this process: a child process counts the memory that its parent had when it started.
            run_process([sys.executable, program, "make", name, path])
            commands[name] = [sys.executable, program, "caption", path, str(TOKENS), image]
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for is_timed in [False, *[True] * ROUNDS]:
            for name, command in commands.items():
                result = run_process(command)
                if is_timed:
                    results[name].append(result)
    seconds = {name: statistics.median(second for second, _ in runs) for name, runs in results.items()}
    memory = {name: max(megabytes for _, megabytes in runs) for name, runs in results.items()}
    for name in _peers.NAMES:
        print_result(
            f"cold start, compared with {name}",
            f"{seconds['showtell']:.2f} s, {memory['showtell']:.0f} MB",
            f"{seconds[name]:.2f} s, {memory[name]:.0f} MB",
            f"{seconds[name] / seconds['showtell']:.1f} x",
        )


if __name__ == "__main__":
    main()
