"""The encoder alone: what ships, ONNX Runtime in 8 bits, against float and against OpenVINO on the same graphs.

python benchmarks/encoder.py [FOLDER]     photographs; by default examples/
"""

import sys
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import onnx
import openvino
from _measure import interleaved, tell

from showtell.images import find_images
from showtell.inference.captioner import ENCODER_BATCH_SIZE, Captioner
from showtell.inference.onnx_models import OnnxEncoder, open_session
from showtell.training.encoders import EFFICIENTNET_LITE2
from showtell.utils.threads import parallel_map

IMAGES = 64
OPENVINO_BATCHES = (1, 4, 8)


def main() -> None:
    """Measure and print."""
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "examples")
    captioner = Captioner.load()
    (bundle,) = captioner.bundles
    (preprocess,) = captioner.preprocesses
    pixels = np.stack([preprocess.load(path) for path in islice(cycle(find_images([source])), IMAGES)])
    extracted = onnx.utils.Extractor(onnx.load(EFFICIENTNET_LITE2)).extract_model(["images"], ["grid"])
    float_encoder = OnnxEncoder(open_session(extracted.SerializeToString(), threads=1), bundle.encoder, "grid")
    few = np.array_split(pixels, range(ENCODER_BATCH_SIZE, IMAGES, ENCODER_BATCH_SIZE))

    def ours(encode: Callable[[np.ndarray], object]) -> Callable[[], object]:
        return lambda: list(parallel_map(encode, few, 4))

    jobs: dict[str, Callable[[], object]] = {
        "what ships": ours(lambda batch: captioner.encode([batch])),
        "ONNX Runtime, float": ours(float_encoder.encode),
    }
    graphs = {"float": extracted.SerializeToString(), "8 bits": bundle.files["encoder.onnx"]}
    for name, graph, precision in (
        ("OpenVINO, float", graphs["float"], "f32"),
        ("OpenVINO, bfloat16", graphs["float"], "bf16"),
        ("OpenVINO, 8 bits", graphs["8 bits"], "f32"),
    ):
        for size in OPENVINO_BATCHES:
            jobs[f"{name}, batches of {size}"] = _openvino(graph, precision, pixels, size)
    seconds = interleaved(jobs)
    rates = {name: IMAGES / taken for name, taken in seconds.items()}
    shipped = rates.pop("what ships")
    best: dict[str, float] = {}
    for name, rate in rates.items():
        kind = name.partition(", batches")[0]
        best[kind] = max(rate, best.get(kind, 0.0))
    for name, rate in best.items():
        wanted = "90 %" if name.startswith("ONNX") else "the gap is stated"
        tell(
            f"the encoder, against {name}",
            f"{shipped:.0f} images/s",
            f"{rate:.0f} images/s",
            f"{shipped / rate:.0%}",
            wanted,
        )


def _openvino(graph: bytes, precision: str, pixels: np.ndarray, size: int) -> Callable[[], None]:
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "THROUGHPUT"}
    compiled = core.compile_model(core.read_model(graph), "CPU", settings)
    queue = openvino.AsyncInferQueue(compiled)

    def encode() -> None:
        for start in range(0, len(pixels), size):
            queue.start_async({0: pixels[start : start + size]})
        queue.wait_all()

    return encode


if __name__ == "__main__":
    main()
