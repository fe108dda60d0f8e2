"""Runs all benchmarks of speed, memory and size, and writes the table in README.md.

    python benchmarks/all.py --captions captions_val2017.json [SCRIPT ..]

They need what `pip install '.[train,bench]'` installs, and a machine that does nothing else. Rows of scripts that are
not named on the command line stay in the table as they are.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- benchmarks -->\n", "<!-- end of the benchmarks -->\n"
PACKAGES = ("onnxruntime", "tensorflow-cpu", "keras", "torch", "transformers", "openvino")
COLUMNS = ("", "showtell", "peer or limit", "ratio", "wanted")
SCRIPTS = ("cold_start", "folder", "encoder", "search", "training_step", "extraction", "prepare", "memory", "size")
LEARN_FROM_CAPTIONS = ("training_step", "prepare")


def main() -> None:
    """Run what is asked for, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wanted", metavar="SCRIPT", nargs="*", help=f"of {', '.join(SCRIPTS)}")
    parser.add_argument("--captions", required=True, help="caption file of COCO")
    arguments = parser.parse_args()
    for script in arguments.wanted or SCRIPTS:
        print(f"== {script}", flush=True)
        _write(script, _rows(script, [arguments.captions] if script in LEARN_FROM_CAPTIONS else []))


def _rows(script: str, arguments: list[str]) -> list[str]:
    """Run a script; return a line of Markdown for each of its results."""
    command = [sys.executable, str(HERE / f"{script}.py"), *arguments]
    rows = []
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        for line in process.stdout or ():
            print(line, end="", flush=True)
            cells = line.rstrip("\n").split("\t")
            if len(cells) == len(COLUMNS):
                rows.append(f"| {' | '.join(cells)} | <!-- {script} -->\n")
        if process.wait():
            errors.seek(0)
            sys.exit(f"{errors.read()}{script}: exit status {process.returncode}")
    return rows


def _write(script: str, rows: list[str]) -> None:
    """Put a script's rows into the table, in the place of those that it wrote before."""
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    table, _, after = rest.partition(END)
    kept: dict[str, list[str]] = {name: [] for name in SCRIPTS} | {script: rows}
    for line in table.splitlines(keepends=True):
        name = line.rpartition("<!-- ")[2].partition(" -->")[0]
        if name in kept and name != script:
            kept[name].append(line)
    heading = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"
    body = "".join(line for lines in kept.values() for line in lines)
    README.write_text(f"{before}{BEGIN}{_machine()}\n\n{heading}{body}{END}{after}", encoding="utf-8")


def _machine() -> str:
    names = [line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")]
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    model = names[0] if names else platform.processor()
    machine = f"{os.cpu_count()} cores of {model}"
    return f"{date.today().isoformat()}, {machine}, Python {platform.python_version()}, {versions}:"


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
