"""Measure memory and time per image of `showtell caption` and `showtell extract` on 1,000, 5,000 and 20,000 photos.

python benchmarks/memory.py [FOLDER]
"""

import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from _measure import EXAMPLES, make_parser, print_result

from showtell.images import find_images

COUNTS = (1000, 5000, 20_000)
SAMPLING_SECONDS = 0.2
COMMANDS = {"caption": ("--jsonl", "captions.jsonl"), "extract": ("-o", "features.npy")}


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=EXAMPLES, help="photos, repeated; default: examples/")
    source = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        folders = [_link_images(Path(temporary, str(count)), source, count) for count in COUNTS]
        for command, (option, output) in COMMANDS.items():
            first = 0.0
            for count, folder in zip(COUNTS, folders, strict=True):
                arguments = [command, str(folder), option, f"{folder}-{output}"]
                seconds, memory = _watch([sys.executable, "-m", "showtell", *arguments])
                milliseconds = seconds / count * 1000
                first = first or milliseconds
                memory = memory[len(memory) // 10 :]  # the program and its models are loaded before
                print_result(
                    f"`showtell {command}` of {count:,} photos",
                    f"{memory[0]:.0f} MB after 10 % of the images, {max(memory):.0f} MB peak, "
                    f"{statistics.median(memory[-10:]):.0f} MB at the end",
                    f"{milliseconds:.2f} ms per image; {first:.2f} ms per image of 1,000",
                    f"{milliseconds / first:.2f} x",
                )


def _link_images(folder: Path, source: Path, count: int) -> Path:
    """Fill a folder with links to the photos, repeated up to a number."""
    folder.mkdir()
    for number, path in enumerate(islice(cycle(list(find_images([source]))), count)):
        (folder / f"{number:05}{path.suffix}").symlink_to(path.resolve())
    return folder


def _watch(command: list[str]) -> tuple[float, list[float]]:
    """Run a program. Return its duration in seconds and samples of its memory in MB."""
    memory = []
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if "VmRSS" in lines:  # missing if the process has just ended
            memory.append(int(lines["VmRSS"].split()[0]) / 1024)
        time.sleep(SAMPLING_SECONDS)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    return time.perf_counter() - began, memory


if __name__ == "__main__":
    main()
