"""A folder of photographs, from files to JSON: `showtell caption` against models in transformers and its own parts.

The parts are decoding and resizing, the encoder, and the decoder's steps, each alone, on all cores, with nothing around
it: what they take together is the limit of this design.

python benchmarks/folder.py [FOLDER]     by default the photographs of examples/, over and over
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
from _measure import interleaved, run, tell

from showtell.images import batched, find_images
from showtell.inference.captioner import BATCH_SIZE, ENCODER_BATCH_SIZE, Captioner
from showtell.inference.decoder_step import DecoderState
from showtell.inference.search import search
from showtell.utils.threads import parallel_map

IMAGES = 1000
PART_IMAGES = 192
PEER_IMAGES = 16
PEER_BATCH = 8
TOKENS = 12
WANTED = {"vit-gpt2": 40, "BLIP-base": 100}


def main() -> None:
    """Measure and print."""
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "examples")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "photographs")
        folder.mkdir()
        for number, path in enumerate(islice(cycle(find_images([source])), IMAGES)):
            (folder / f"{number:04}{path.suffix}").write_bytes(path.read_bytes())
        paths = list(find_images([folder]))
        rate = _ours(folder)
        tell("a folder of 1,000", f"{rate:.0f} images/s", "", "", "")
        _against_its_parts(paths[:PART_IMAGES], rate)
        for name in _peers.NAMES:
            run([sys.executable, _peers.__file__, "make", name, str(Path(temporary, name))])
            theirs = _theirs(Path(temporary, name), paths[:PEER_IMAGES])
            rate = _ours(folder)
            ratio = f"{rate / theirs:.0f} x"
            tell(
                f"a folder, against {name}",
                f"{rate:.0f} images/s",
                f"{theirs:.2f} images/s",
                ratio,
                f"{WANTED[name]} x",
            )


def _ours(folder: Path) -> float:
    """Return images a second of the whole command, its start included."""
    seconds, _ = run([sys.executable, "-m", "showtell", "caption", str(folder), "--json"])
    return IMAGES / seconds


def _theirs(folder: Path, paths: list[Path]) -> float:
    """Return images a second of a peer in batches; its start is not counted."""
    peer = _peers.Peer(folder)
    peer.caption(paths[:PEER_BATCH], TOKENS)
    began = time.perf_counter()
    for batch in batched(paths, PEER_BATCH):
        peer.caption(batch, TOKENS)
    return len(paths) / (time.perf_counter() - began)


def _against_its_parts(paths: list[Path], rate: float) -> None:
    captioner = Captioner.load()
    (preprocess,) = captioner.preprocesses
    pixels = np.stack(list(parallel_map(preprocess.load, paths, 8)))
    few = np.array_split(pixels, range(ENCODER_BATCH_SIZE, len(pixels), ENCODER_BATCH_SIZE))
    (features,) = captioner.encode([pixels])
    calls = [
        _calls(captioner, batch) for batch in np.array_split(features, range(BATCH_SIZE, len(features), BATCH_SIZE))
    ]

    def on_all_cores(work: Callable[[Any], object], items: Iterable[Any]) -> Callable[[], object]:
        return lambda: sum(1 for _ in parallel_map(work, items, 4))

    parts = interleaved(
        {
            "decoding and resizing": on_all_cores(preprocess.load, paths),
            "the encoder": on_all_cores(lambda batch: captioner.encode([batch]), few),
            "the decoder's steps": on_all_cores(lambda made: [captioner.step(*call) for call in made], calls),
            "all of it": lambda: list(captioner.caption(paths)),
        }
    )
    whole = parts.pop("all of it")
    for name, seconds in parts.items():
        print(f"{name}: {seconds / len(paths) * 1000:.2f} ms an image", file=sys.stderr)
    limit = len(paths) / sum(parts.values())
    tell(
        "a folder, against its parts",
        f"{len(paths) / whole:.0f} images/s",
        f"{limit:.0f} images/s",
        f"{len(paths) / whole / limit:.0%}",
        "80 %, aim 95 %",
    )
    tell(
        "the same with the start of the program",
        f"{rate:.0f} images/s",
        f"{limit:.0f} images/s",
        f"{rate / limit:.0%}",
        "",
    )


def _calls(captioner: Captioner, features: np.ndarray) -> list[tuple[np.ndarray, DecoderState]]:
    """Return what the decoder is called with while captions are sought."""
    calls = []

    class Recorder:
        def start(self, features: Any) -> DecoderState:
            return captioner.step.start(features)

        def __call__(self, tokens: np.ndarray, state: DecoderState) -> tuple[np.ndarray, DecoderState]:
            calls.append((tokens, state))
            return captioner.step(tokens, state)

    search(Recorder(), features, captioner.search_options)
    return calls


if __name__ == "__main__":
    main()
