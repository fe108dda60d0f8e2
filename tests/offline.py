"""Run showtell under strace and report every connection, every name look-up and every file in the home folder.

    python tests/offline.py [--seconds 60] [--images 1500] [CASE ...]

strace sees what Python cannot: libraries that open sockets and files in native code. HOME is an empty folder. The exit
status is 1 if anything was found.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import httpx
from helpers import EXAMPLES

PYTHON = sys.executable
SHOWTELL = [PYTHON, "-m", "showtell"]
LIBRARY = (
    "import sys, showtell\nprint(*(result.captions for result in showtell.Captioner.load().caption(sys.argv[1:])))"
)
TINY_TRAINING = ["--epochs", "1", "--batch-size", "8", "--embedding-size", "16", "--units", "16"]

# Files of other packages that are known and stay on this machine: Keras writes its settings, and imports matplotlib,
# which caches the list of fonts; Ray writes the secret of the cluster.
KNOWN_FILES = {"training": re.compile(r"\.keras/|\.(cache|config)/matplotlib"), "ray": re.compile(r"\.ray/auth_token$")}
# System calls that address a peer. Answers of a server have no address.
CONNECTION = re.compile(r"\b(?:connect|sendto|sendmsg|sendmmsg)\(.*sa_family=AF_INET")
LOOKUP = re.compile(r'"/etc/resolv\.conf"')
ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')
QUESTION = re.compile(r"\bsend\w*\(.*(?::53\]>|htons\(53\))")
# Ray connects a datagram socket to this address to learn its own address. It sends nothing.
RAY_ADDRESS = "8.8.8.8"


def can_trace() -> bool:
    """Return whether strace is installed and allowed to trace."""
    return bool(shutil.which("strace")) and not subprocess.run(["strace", "-o", os.devnull, "true"]).returncode


@dataclass
class Sandbox:
    """Runs commands under strace with an empty home folder.

    Attributes:
        folder: folder for the home folder, the log and the data of the commands.
        environment: environment variables to change.
        findings: what the commands did that an offline program does not do.
    """

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        self._log = self.folder / "strace.log"

    def run(self, command: Sequence[object], cluster: bool = False) -> None:
        """Run a command to its end.

        Args:
            command: the program and its arguments.
            cluster: allow what Ray does to start a cluster on this machine.
        """
        with self.start(command, cluster) as process:
            _, errors = process.communicate(timeout=1200)
        if process.returncode:
            raise RuntimeError(f"{command} ended with {process.returncode}: {errors}")

    @contextmanager
    def start(self, command: Sequence[object], cluster: bool = False) -> Iterator[subprocess.Popen[str]]:
        """Start a command, and wait for its end on leaving the context."""
        # -D makes the command, not strace, the child of this process.
        strace = ["strace", "-D", "-f", "-yy", "-s", "64", "--seccomp-bpf", "-e", "trace=%network,openat"]
        # A proxy or a mirror would hide what happens on a machine without them.
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        environment |= {"HOME": str(self.home), "XDG_CACHE_HOME": str(self.home / ".cache"), **self.environment}
        process = subprocess.Popen(
            [*strace, "-o", str(self._log), *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=self.folder,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            self._read_log(process.pid, cluster)

    def _read_log(self, pid: int, cluster: bool) -> None:
        end = re.compile(rf"^{pid} +\+\+\+ (exited|killed)", re.MULTILINE)
        deadline = time.monotonic() + 30
        while not end.search(text := self._log.read_text(errors="replace")):  # strace writes it after the command ends
            if time.monotonic() > deadline:
                raise RuntimeError("strace did not finish its log")
            time.sleep(0.05)
        self.findings += suspicious_calls(text, cluster)

    def files(self) -> list[str]:
        """Return the files and empty folders in the home folder, relative to it."""
        paths = [path for path in self.home.rglob("*") if path.is_file() or not any(path.iterdir())]
        return sorted(path.relative_to(self.home).as_posix() for path in paths)


def suspicious_calls(log: str, cluster: bool) -> list[str]:
    """Return the lines of a strace log with a connection or a name look-up.

    Args:
        log: the log.
        cluster: allow what Ray does to start a cluster on this machine.
    """
    if not cluster:
        return [line for line in log.splitlines() if CONNECTION.search(line) or LOOKUP.search(line)]
    allowed = {*own_addresses(), RAY_ADDRESS}

    def is_suspicious(line: str) -> bool:
        addresses = {(first or second).removeprefix("::ffff:") for first, second in ADDRESS.findall(line)}
        return bool(QUESTION.search(line) or (CONNECTION.search(line) and not addresses <= allowed))

    return [line for line in log.splitlines() if is_suspicious(line)]


def own_addresses() -> set[str]:
    """Return the IP addresses of this machine."""
    lines = Path("/proc/net/fib_trie").read_text().splitlines()
    local = {lines[row - 1].split()[-1] for row, line in enumerate(lines) if "host LOCAL" in line}
    return {*local, "127.0.0.1", "::1"}


def make_images(folder: Path, count: int) -> Path:
    """Fill a folder with copies of the example images."""
    folder.mkdir()
    for number, path in enumerate(islice(cycle(sorted(EXAMPLES.glob("*.jpg"))), count)):
        shutil.copy(path, folder / f"{number:05}.jpg")
    return folder


def caption(sandbox: Sandbox, images: int, seconds: float) -> None:
    """Caption a folder on the command line."""
    folder = make_images(sandbox.folder / "images", images)
    sandbox.run([*SHOWTELL, "caption", folder, "--jsonl", "captions.jsonl"])


def library(sandbox: Sandbox, images: int, seconds: float) -> None:
    """Caption images from Python."""
    sandbox.run([PYTHON, "-c", LIBRARY, *make_images(sandbox.folder / "images", images).iterdir()])


def serve(sandbox: Sandbox, images: int, seconds: float) -> None:
    """Send images to the server for some seconds."""
    with sandbox.start([*SHOWTELL, "serve", "--port", "0"]) as process:
        match = None
        while match is None:
            line = process.stderr.readline()
            if not line:
                raise RuntimeError(f"the server ended with {process.wait()}")
            match = re.search(r"http://\S+:\d+", line)
        end = time.monotonic() + seconds
        for path in cycle(sorted(EXAMPLES.glob("*.jpg"))):
            answer = httpx.post(f"{match.group()}/v1/captions", files={"files": path.open("rb")}, timeout=60)
            answer.raise_for_status()
            if time.monotonic() > end:
                break
            time.sleep(0.1)
        process.terminate()
        process.communicate(timeout=60)


def evaluate(sandbox: Sandbox, images: int, seconds: float) -> None:
    """Score the captions of a folder."""
    folder = make_images(sandbox.folder / "images", images)
    table = sandbox.folder / "captions.csv"
    table.write_text("file_name,caption\n" + "".join(f"{path.name},a dog\n" for path in folder.iterdir()))
    sandbox.run([*SHOWTELL, "evaluate", "default", "--captions", table, "--images", folder, "--split", "all"])


def training(sandbox: Sandbox, images: int, seconds: float) -> None:
    """Train a tiny model and export it in 8 bits."""
    sandbox.run([*SHOWTELL, "tutorial-data", "data", "--images", "20"])
    sandbox.run([*SHOWTELL, "train", "-o", "run", "--images", "data", *TINY_TRAINING])
    sandbox.run([*SHOWTELL, "export", "run", "-o", "bundle.zip", "--int8"])


def ray(sandbox: Sandbox, images: int, seconds: float) -> None:
    """Caption a folder on a Ray cluster on this machine."""
    folder = make_images(sandbox.folder / "images", images)
    sandbox.run([*SHOWTELL, "ray", "caption", folder, "-o", sandbox.folder / "output"], cluster=True)


CASES: dict[str, Callable[[Sandbox, int, float], None]] = {
    case.__name__: case for case in (caption, library, serve, evaluate, training, ray)
}


def run_case(
    name: str, folder: Path, images: int = 12, seconds: float = 2, environment: Mapping[str, str] | None = None
) -> list[str]:
    """Run a case and return its network accesses and the files that it left in the home folder.

    Args:
        name: a key of CASES.
        folder: a new folder for the home folder and data.
        images: number of images to caption.
        seconds: how long to use the server.
        environment: environment variables to change.
    """
    sandbox = Sandbox(folder, {"RAY_ADDRESS": "local", **(environment or {})})
    CASES[name](sandbox, images, seconds)
    files = [file for file in sandbox.files() if name not in KNOWN_FILES or not KNOWN_FILES[name].match(file)]
    return [*sandbox.findings, *(f"file in the home folder: {file}" for file in files)]


def main() -> None:
    """Run the cases of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", metavar="CASE", nargs="*", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--seconds", type=float, default=60, help="how long to use the server; default: 60")
    parser.add_argument("--images", type=int, default=1500, help="number of images to caption; default: 1500")
    arguments = parser.parse_args()
    failed = False
    for name in arguments.cases or CASES:
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            findings = run_case(name, Path(folder, name), arguments.images, arguments.seconds)
        print(f"{name}: {len(findings)} findings in {time.monotonic() - began:.0f} s", flush=True)
        for finding in findings[:20]:
            print(f"  {finding}", flush=True)
        failed = failed or bool(findings)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
