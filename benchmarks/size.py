"""Compare download and installed size with captioners that need PyTorch and transformers.

python benchmarks/size.py
"""

import re
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import _peers
from _measure import make_parser, print_result, run_process

from showtell.inference.bundle import Bundle

PEER_PACKAGES = ["torch", "transformers", "pillow"]


def main() -> None:
    """Measure and print."""
    make_parser(__doc__).parse_args()
    ours = sum(map(len, Bundle.load("default").files.values()))
    for name in _peers.NAMES:
        with tempfile.TemporaryDirectory() as folder:
            run_process([sys.executable, _peers.__file__, "make", name, folder])
            peer = sum(path.stat().st_size for path in Path(folder).iterdir())
        print_result(f"model size, compared with {name}", _megabytes(ours), _megabytes(peer), f"1/{peer / ours:.0f}")
    ours, peer = _installed_size(_requirements("showtell")), _installed_size(PEER_PACKAGES)
    title = f"installed size, compared with PyTorch {distribution('torch').version}"
    print_result(title, _megabytes(ours), _megabytes(peer), f"1/{peer / ours:.1f}")


def _installed_size(names: list[str]) -> int:
    """Return the size in bytes of packages and all their requirements."""
    seen: set[str] = set()
    remaining = list(names)
    size = 0
    while remaining:
        name = remaining.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            files = distribution(name).files or []
        except PackageNotFoundError:  # required on other systems only
            continue
        paths = (Path(str(file.locate())) for file in files)
        size += sum(path.stat().st_size for path in paths if path.is_file() and path.suffix != ".pyc")
        remaining += _requirements(name)
    return size


def _requirements(name: str) -> list[str]:
    """Return the names of the packages that a package requires, without extras."""
    requirements = [each for each in distribution(name).requires or [] if "extra ==" not in each]
    return [match.group() for each in requirements if (match := re.match(r"[\w.-]+", each))]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


if __name__ == "__main__":
    main()
