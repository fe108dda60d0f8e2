"""Run the benchmarks of speed, memory and size, and write the table in docs/performance.md.

    python benchmarks/all.py --captions captions_val2017.json [SCRIPT ...]

Install `pip install '.[train,bench]'` first, and use a machine that does nothing else. Rows of scripts that do not run
stay in the table.
"""

import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

from _measure import make_parser

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "performance.md"
BEGIN, END = "<!-- benchmarks -->\n", "<!-- end of the benchmarks -->\n"
PACKAGES = ("onnxruntime", "tensorflow-cpu", "keras", "torch", "transformers", "openvino")
COLUMNS = ("", "showtell", "peer or limit", "ratio")
SCRIPTS = ("cold_start", "folder", "encoder", "search", "training_step", "extraction", "prepare", "memory", "size")
NEED_CAPTIONS = ("training_step", "prepare")


def main() -> None:
    """Run the scripts and update the table after each."""
    parser = make_parser(__doc__)
    parser.add_argument("scripts", metavar="SCRIPT", nargs="*", help=f"of {', '.join(SCRIPTS)}; default: all")
    parser.add_argument("--captions", required=True, help="caption file of COCO")
    arguments = parser.parse_args()
    for script in arguments.scripts or SCRIPTS:
        print(f"== {script}", flush=True)
        rows = _run(script, [arguments.captions] if script in NEED_CAPTIONS else [])
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(update_table(page, script, rows, _describe_machine()), encoding="utf-8")


def update_table(page: str, script: str, rows: list[str], machine: str) -> str:
    """Return a page with new rows of a script in its table. Rows of other scripts stay.

    Args:
        page: the page, with a table between BEGIN and END.
        script: name of the script.
        rows: new table rows.
        machine: first line above the table.
    """
    before, _, rest = page.partition(BEGIN)
    table, _, after = rest.partition(END)
    by_script: dict[str, list[str]] = {name: [] for name in SCRIPTS} | {script: rows}
    for line in table.splitlines(keepends=True):
        name = line.rpartition("<!-- ")[2].partition(" -->")[0]
        if name in by_script and name != script:
            by_script[name].append(line)
    heading = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"
    body = "".join(line for lines in by_script.values() for line in lines)
    return f"{before}{BEGIN}{machine}\n\n{heading}{body}{END}{after}"


def _run(script: str, arguments: list[str]) -> list[str]:
    """Run a script and return a Markdown table row for each of its results."""
    command = [sys.executable, str(FOLDER / f"{script}.py"), *arguments]
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


def _describe_machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    machine = f"{os.cpu_count()} cores of {models[0] if models else platform.processor()}"
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"{date.today().isoformat()}, {machine}, Python {platform.python_version()}, {versions}:"


if __name__ == "__main__":
    main()
