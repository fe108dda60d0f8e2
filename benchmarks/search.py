"""Beam search: what it costs above the model's own steps, and against a search of one image at a time.

python benchmarks/search.py
"""

import heapq
from typing import Any

import numpy as np
from _measure import interleaved, tell

from showtell.inference.captioner import BATCH_SIZE, Captioner
from showtell.inference.decoder_step import DecoderState, DecoderStep
from showtell.inference.onnx_models import OnnxDecoderStep, open_session
from showtell.inference.search import SearchOptions, search
from showtell.training.decoders import ShowAndTell
from showtell.training.onnx_graphs import export_decoder
from showtell.utils.threads import parallel_map
from showtell.vocabulary import END, START

IMAGES = 64
WORDS = 5004
CHANNELS = 2048


def main() -> None:
    """Measure and print."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(IMAGES, 1, CHANNELS)).astype(np.float32)
    tutorial = _tutorial_step(threads=1)
    options = SearchOptions(beam_size=3)
    _against_its_steps("the tutorial's model, 5,000 words", tutorial, features, options)
    captioner = Captioner.load()
    (encoder,) = (bundle.encoder for bundle in captioner.bundles)
    grid = generator.normal(size=(IMAGES, encoder.cells, encoder.channels)).astype(np.float32)
    _against_its_steps("what ships, in 8 bits", captioner.step, grid, captioner.search_options)
    # Both have all cores: ours captions batches in threads, theirs can but share each product among them.
    batches = np.array_split(features, range(BATCH_SIZE, IMAGES, BATCH_SIZE))
    sharing = _tutorial_step(threads=0)
    seconds = interleaved(
        {
            "ours": lambda: list(parallel_map(lambda batch: search(tutorial, batch, options), batches, ahead=1)),
            "one at a time": lambda: [_one_at_a_time(sharing, image[None], options) for image in features],
        }
    )
    tell(
        "beam search, against one image at a time",
        f"{IMAGES / seconds['ours']:.0f} images/s",
        f"{IMAGES / seconds['one at a time']:.0f} images/s",
        f"{seconds['one at a time'] / seconds['ours']:.1f} x",
        "10 x",
    )


def _tutorial_step(threads: int) -> DecoderStep:
    """Return the tutorial's decoder, 512 numbers a word and 512 units, with random weights."""
    decoder = ShowAndTell(WORDS, CHANNELS, embedding_size=512, units=512)
    decoder.build()
    start, step = (open_session(graph.SerializeToString(), threads=threads) for graph in export_decoder(decoder))
    return OnnxDecoderStep(start, step)


def _against_its_steps(name: str, step: DecoderStep, features: np.ndarray, options: SearchOptions) -> None:
    calls: list[tuple[np.ndarray, DecoderState]] = []

    class Recorder:
        def start(self, features: Any) -> DecoderState:
            return step.start(features)

        def __call__(self, tokens: np.ndarray, state: DecoderState) -> tuple[np.ndarray, DecoderState]:
            calls.append((tokens, state))
            return step(tokens, state)

    search(Recorder(), features, options)

    def alone() -> None:
        step.start(features)
        for tokens, state in calls:
            step(tokens, state)

    seconds = interleaved({"search": lambda: search(step, features, options), "alone": alone}, rounds=9)
    tell(
        f"beam search, cost above its steps; {name}",
        f"{seconds['search'] / len(features) * 1000:.2f} ms/image",
        f"{seconds['alone'] / len(features) * 1000:.2f} ms/image",
        f"{seconds['search'] / seconds['alone'] - 1:.0%}",
        "15 %, aim 5 %",
    )


def _one_at_a_time(step: DecoderStep, features: np.ndarray, options: SearchOptions) -> list[int]:
    """Decode one image as the tutorial does: captions are Python objects in heaps, with one step for all of them."""
    first = step.start(features)
    beam = [(0.0, 0, [START], {name: array[0] for name, array in first.caption.items()})]
    finished: list[tuple[float, int, list[int]]] = []
    made = 0
    for _ in range(options.max_length):
        stacked = {name: np.stack([arrays[name] for *_, arrays in beam]) for name in first.caption}
        log_probs, state = step(np.array([words[-1] for _, _, words, _ in beam]), DecoderState(first.image, stacked))
        candidates: list[tuple[float, int, list[int], dict[str, np.ndarray]]] = []
        for row, (total, _, words, _) in enumerate(beam):
            for word in np.argsort(-log_probs[row])[: options.beam_size]:
                made += 1
                score = total + float(log_probs[row, word])
                if word == END:
                    heapq.heappush(finished, (score, made, words))
                    continue
                arrays = {name: array[row] for name, array in state.caption.items()}
                heapq.heappush(candidates, (score, made, [*words, int(word)], arrays))
                if len(candidates) > options.beam_size:
                    heapq.heappop(candidates)
        beam = candidates
        if not beam:
            break
    return max(finished)[2] if finished else max(beam)[2]


if __name__ == "__main__":
    main()
