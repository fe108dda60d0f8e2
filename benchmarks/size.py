"""What must be downloaded and what must be installed, against captioners that need torch and transformers.

python benchmarks/size.py
"""

import re
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import _peers
from _measure import run, tell

from showtell.inference.bundle import DEFAULT_BUNDLE, Bundle

PEER_PACKAGES = ("torch", "transformers", "pillow")


def main() -> None:
    """Measure and print."""
    bundle = sum(map(len, Bundle.load(DEFAULT_BUNDLE).files.values()))
    for name in _peers.NAMES:
        with tempfile.TemporaryDirectory() as folder:
            run([sys.executable, _peers.__file__, "make", name, folder])
            model = sum(path.stat().st_size for path in Path(folder).iterdir())
        tell(
            f"the model's size, against {name}",
            _megabytes(bundle),
            _megabytes(model),
            f"1/{model / bundle:.0f}",
            "1/40",
        )
    needed = [name for name in map(_name, distribution("showtell").requires or []) if name]
    ours, theirs = _installed(needed), _installed(list(PEER_PACKAGES))
    versions = f"torch {distribution('torch').version}"
    tell(
        f"what is installed, against {versions}", _megabytes(ours), _megabytes(theirs), f"1/{theirs / ours:.1f}", "1/10"
    )


def _installed(names: list[str]) -> int:
    """Return the bytes of the files of packages, and of all that they need."""
    seen: set[str] = set()
    size = 0
    while names:
        name = names.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:  # needed on other systems alone
            continue
        files = (Path(str(file.locate())) for file in found.files or [])
        size += sum(path.stat().st_size for path in files if path.is_file() and path.suffix != ".pyc")
        names += [needed for needed in map(_name, found.requires or []) if needed]
    return size


def _name(requirement: str) -> str | None:
    """Return the name in a requirement; None for those of extras."""
    if "extra ==" in requirement:
        return None
    match = re.match(r"[\w.-]+", requirement)
    return match.group() if match else None


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


if __name__ == "__main__":
    main()
