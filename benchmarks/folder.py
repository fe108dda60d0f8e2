"""Compare captioning a folder of photos with models in transformers, and with its own parts.

    python benchmarks/folder.py [FOLDER]

The parts are decoding and resizing, the encoder, and the decoder steps. Each runs alone on all cores. Their total is
the limit of this design.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import _peers
import numpy as np
from _measure import EXAMPLES, make_parser, print_result, run_process, time_alternately
from _recorder import record_calls

from showtell.images import find_images
from showtell.inference.captioner import BATCH_SIZE, ENCODER_BATCH_SIZE, Captioner
from showtell.utils.iterables import batched
from showtell.utils.threads import parallel_map

IMAGES = 1000
PART_IMAGES = 192
PEER_IMAGES = 16
PEER_BATCH_SIZE = 8
TOKENS = 12


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=EXAMPLES, help="photos, repeated; default: examples/")
    source = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "photos")
        folder.mkdir()
        for number, path in enumerate(islice(cycle(find_images([source])), IMAGES)):
            (folder / f"{number:04}{path.suffix}").write_bytes(path.read_bytes())
        paths = list(find_images([folder]))
        rate = _command_rate(folder)
        print_result("`showtell caption` of 1,000 photos", f"{rate:.0f} images/s")
        _compare_with_parts(paths[:PART_IMAGES], rate)
        for name in _peers.NAMES:
            run_process([sys.executable, _peers.__file__, "make", name, str(Path(temporary, name))])
            peer = _peer_rate(Path(temporary, name), paths[:PEER_IMAGES])
            rate = _command_rate(folder)
            title = f"captioning a folder, compared with {name}"
            print_result(title, f"{rate:.0f} images/s", f"{peer:.2f} images/s", f"{rate / peer:.0f} x")


def _command_rate(folder: Path) -> float:
    """Return images per second of the command, program start included."""
    seconds, _ = run_process([sys.executable, "-m", "showtell", "caption", str(folder), "--json"])
    return IMAGES / seconds


def _peer_rate(folder: Path, paths: list[Path]) -> float:
    """Return images per second of a peer, program start not included."""
    peer = _peers.Peer(folder)
    peer.caption(paths[:PEER_BATCH_SIZE], TOKENS)
    began = time.perf_counter()
    for batch in batched(paths, PEER_BATCH_SIZE):
        peer.caption(batch, TOKENS)
    return len(paths) / (time.perf_counter() - began)


def _compare_with_parts(paths: list[Path], command_rate: float) -> None:
    captioner = Captioner.load()
    (preprocess,) = captioner.preprocesses
    pixels = np.stack(list(parallel_map(preprocess.load, paths, 8)))
    pixel_batches = np.array_split(pixels, range(ENCODER_BATCH_SIZE, len(pixels), ENCODER_BATCH_SIZE))
    (features,) = captioner.encode([pixels])
    feature_batches = np.array_split(features, range(BATCH_SIZE, len(features), BATCH_SIZE))
    calls = [record_calls(captioner.step, batch, captioner.search_options) for batch in feature_batches]

    def on_all_cores(work: Callable[[Any], object], items: Iterable[Any]) -> Callable[[], object]:
        return lambda: sum(1 for _ in parallel_map(work, items, 4))

    seconds = time_alternately(
        {
            "decoding and resizing": on_all_cores(preprocess.load, paths),
            "encoder": on_all_cores(lambda batch: captioner.encode([batch]), pixel_batches),
            "decoder steps": on_all_cores(lambda batch: [captioner.step(*call) for call in batch], calls),
            "total": lambda: list(captioner.caption(paths)),
        }
    )
    rate = len(paths) / seconds.pop("total")
    for name, part in seconds.items():
        print(f"{name}: {part / len(paths) * 1000:.2f} ms per image", file=sys.stderr)
    limit = len(paths) / sum(seconds.values())
    for title, measured in (
        ("captioning a folder, compared with its parts alone", rate),
        ("the same, program start included", command_rate),
    ):
        print_result(title, f"{measured:.0f} images/s", f"{limit:.0f} images/s", f"{measured / limit:.0%}")


if __name__ == "__main__":
    main()
