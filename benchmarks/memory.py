"""Memory and cost of captioning and of extracting 1,000, 5,000 and 20,000 photographs: one flat, the other linear.

python benchmarks/memory.py [FOLDER]     by default the photographs of examples/, over and over
"""

import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from _measure import tell

from showtell.images import find_images

COUNTS = (1000, 5000, 20_000)
EVERY = 0.2  # seconds


def main() -> None:
    """Measure and print."""
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "examples")
    with tempfile.TemporaryDirectory() as temporary:
        folders = [_folder(Path(temporary, str(count)), source, count) for count in COUNTS]
        for command, *options in (["caption", "--jsonl", "captions.jsonl"], ["extract", "-o", "features.npy"]):
            first = 0.0
            for count, folder in zip(COUNTS, folders, strict=True):
                outputs = [*options[:-1], f"{folder}-{options[-1]}"]
                seconds, held = _watch([sys.executable, "-m", "showtell", command, str(folder), *outputs])
                each = seconds / count * 1000
                first = first or each
                # The first tenth reads the program and its models.
                settled = held[len(held) // 10 :]
                tell(
                    f"`showtell {command}` of {count:,} photographs",
                    f"{settled[0]:.0f} MB after a tenth, {max(settled):.0f} at most, "
                    f"{statistics.median(settled[-10:]):.0f} at the end",
                    f"{each:.2f} ms an image; of 1,000 {first:.2f}",
                    f"{each / first:.2f} x",
                    "memory flat, 1 x",
                )


def _folder(folder: Path, source: Path, count: int) -> Path:
    """Fill a folder with so many names of photographs, over and over the same."""
    folder.mkdir()
    for number, path in enumerate(islice(cycle(list(find_images([source]))), count)):
        (folder / f"{number:05}{path.suffix}").symlink_to(path.resolve())
    return folder


def _watch(command: list[str]) -> tuple[float, list[float]]:
    """Run a program; return its seconds, and the memory that it held every EVERY seconds, in MB."""
    held = []
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if "VmRSS" in lines:  # a process that has just ended has none
            held.append(int(lines["VmRSS"].split()[0]) / 1024)
        time.sleep(EVERY)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    return time.perf_counter() - began, held


if __name__ == "__main__":
    main()
