"""Compare the shipped int8 encoder with the float32 encoder in ONNX Runtime, and with OpenVINO on the same graphs.

python benchmarks/encoder.py [FOLDER]
"""

from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from _measure import EXAMPLES, make_parser, print_result, time_alternately

from showtell.images import find_images
from showtell.utils.threads import parallel_map

IMAGES = 64
OPENVINO_BATCH_SIZES = (1, 4, 8)


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=EXAMPLES, help="photos, repeated; default: examples/")
    folder = parser.parse_args().folder
    import onnx

    from showtell.inference.captioner import ENCODER_BATCH_SIZE, Captioner
    from showtell.inference.onnx_models import OnnxEncoder, open_session
    from showtell.training.encoders import EFFICIENTNET_LITE2

    captioner = Captioner.load()
    (bundle,) = captioner.bundles
    (preprocess,) = captioner.preprocesses
    pixels = np.stack([preprocess.load(path) for path in islice(cycle(find_images([folder])), IMAGES)])
    batches = np.array_split(pixels, range(ENCODER_BATCH_SIZE, IMAGES, ENCODER_BATCH_SIZE))
    float_graph = onnx.utils.Extractor(onnx.load(EFFICIENTNET_LITE2)).extract_model(["images"], ["grid"])
    graphs = {"float32": float_graph.SerializeToString(), "int8": bundle.files["encoder.onnx"]}
    float_encoder = OnnxEncoder(open_session(graphs["float32"], threads=1), bundle.encoder, "grid")

    def encode_in_threads(encode: Callable[[np.ndarray], object]) -> Callable[[], object]:
        return lambda: list(parallel_map(encode, batches, 4))

    jobs: dict[str, Callable[[], object]] = {
        "shipped": encode_in_threads(lambda batch: captioner.encode([batch])),
        "ONNX Runtime, float32": encode_in_threads(float_encoder.encode),
    }
    for name, graph, precision in (
        ("OpenVINO, float32", graphs["float32"], "f32"),
        ("OpenVINO, bfloat16", graphs["float32"], "bf16"),
        ("OpenVINO, int8", graphs["int8"], "f32"),
    ):
        for size in OPENVINO_BATCH_SIZES:
            jobs[f"{name}, batches of {size}"] = _openvino_job(graph, precision, pixels, size)
    rates = {name: IMAGES / seconds for name, seconds in time_alternately(jobs).items()}
    shipped = rates.pop("shipped")
    best: dict[str, float] = {}
    for name, rate in rates.items():
        peer = name.partition(", batches")[0]
        best[peer] = max(rate, best.get(peer, 0.0))
    for peer, rate in best.items():
        title = f"int8 encoder, compared with {peer}"
        print_result(title, f"{shipped:.0f} images/s", f"{rate:.0f} images/s", f"{shipped / rate:.0%}")


def _openvino_job(graph: bytes, precision: str, pixels: np.ndarray, batch_size: int) -> Callable[[], None]:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "THROUGHPUT"}
    compiled = core.compile_model(core.read_model(graph), "CPU", settings)
    queue = openvino.AsyncInferQueue(compiled)

    def encode() -> None:
        for start in range(0, len(pixels), batch_size):
            queue.start_async({0: pixels[start : start + batch_size]})
        queue.wait_all()

    return encode


if __name__ == "__main__":
    main()
