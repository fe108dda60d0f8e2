"""Measure the overhead of beam search over its decoder steps, and compare it with a search of one image at a time.

python benchmarks/search.py
"""

import heapq

import numpy as np
from _measure import make_parser, print_result, time_alternately
from _recorder import record_calls

from showtell.inference.captioner import BATCH_SIZE, Captioner
from showtell.inference.decoder_step import DecoderState, DecoderStep
from showtell.inference.onnx_models import OnnxDecoderStep, open_session
from showtell.inference.search import search
from showtell.inference.search_options import SearchOptions
from showtell.utils.threads import parallel_map
from showtell.vocabulary import END, START

IMAGES = 64
VOCABULARY_SIZE = 5004
CHANNELS = 2048


def main() -> None:
    """Measure and print."""
    make_parser(__doc__).parse_args()
    generator = np.random.default_rng(0)
    features = generator.normal(size=(IMAGES, 1, CHANNELS)).astype(np.float32)
    step = _tutorial_step(threads=1)
    options = SearchOptions(beam_size=3)
    _measure_overhead("the tutorial's model, 5,000 words", step, features, options)
    captioner = Captioner.load()
    (encoder,) = (bundle.encoder for bundle in captioner.bundles)
    grid = generator.normal(size=(IMAGES, encoder.cells, encoder.channels)).astype(np.float32)
    _measure_overhead("the shipped model, int8", captioner.step, grid, captioner.search_options)
    # Both use all cores: ours decodes batches in threads, the peer can only share each matrix product among threads.
    batches = np.array_split(features, range(BATCH_SIZE, IMAGES, BATCH_SIZE))
    threaded_step = _tutorial_step(threads=0)
    seconds = time_alternately(
        {
            "ours": lambda: list(parallel_map(lambda batch: search(step, batch, options), batches, ahead=1)),
            "peer": lambda: [_decode_one_image(threaded_step, image[None], options) for image in features],
        }
    )
    print_result(
        "batched beam search, compared with one image at a time",
        f"{IMAGES / seconds['ours']:.0f} images/s",
        f"{IMAGES / seconds['peer']:.0f} images/s",
        f"{seconds['peer'] / seconds['ours']:.1f} x",
    )


def _tutorial_step(threads: int) -> DecoderStep:
    """Return the tutorial's decoder with embedding size 512, hidden size 512 and random weights."""
    from showtell.training.decoders import ShowAndTell
    from showtell.training.onnx_graphs import export_decoder

    decoder = ShowAndTell(VOCABULARY_SIZE, CHANNELS, embedding_size=512, units=512)
    decoder.build()
    start, step = (open_session(graph.SerializeToString(), threads=threads) for graph in export_decoder(decoder))
    return OnnxDecoderStep(start, step)


def _measure_overhead(model: str, step: DecoderStep, features: np.ndarray, options: SearchOptions) -> None:
    calls = record_calls(step, features, options)

    def run_steps() -> None:
        step.start(features)
        for tokens, state in calls:
            step(tokens, state)

    seconds = time_alternately({"search": lambda: search(step, features, options), "steps": run_steps}, rounds=9)
    print_result(
        f"beam search overhead over decoder steps: {model}",
        f"{seconds['search'] / len(features) * 1000:.2f} ms/image",
        f"{seconds['steps'] / len(features) * 1000:.2f} ms/image",
        f"{seconds['search'] / seconds['steps'] - 1:.0%}",
    )


def _decode_one_image(step: DecoderStep, features: np.ndarray, options: SearchOptions) -> list[int]:
    """Decode one image as the tutorial does, with captions as Python objects in heaps."""
    first = step.start(features)
    beam = [(0.0, 0, [START], {name: array[0] for name, array in first.caption.items()})]
    finished: list[tuple[float, int, list[int]]] = []
    created = 0  # breaks ties, because states cannot be compared
    for _ in range(options.max_length):
        stacked = {name: np.stack([arrays[name] for *_, arrays in beam]) for name in first.caption}
        log_probs, state = step(np.array([tokens[-1] for _, _, tokens, _ in beam]), DecoderState(first.image, stacked))
        candidates: list[tuple[float, int, list[int], dict[str, np.ndarray]]] = []
        for row, (total, _, tokens, _) in enumerate(beam):
            for token in np.argsort(-log_probs[row])[: options.beam_size]:
                created += 1
                score = total + float(log_probs[row, token])
                if token == END:
                    heapq.heappush(finished, (score, created, tokens))
                    continue
                arrays = {name: array[row] for name, array in state.caption.items()}
                heapq.heappush(candidates, (score, created, [*tokens, int(token)], arrays))
                if len(candidates) > options.beam_size:
                    heapq.heappop(candidates)
        beam = candidates
        if not beam:
            break
    return max(finished)[2] if finished else max(beam)[2]


if __name__ == "__main__":
    main()
