"""Compare training steps and Inception V3 on a GPU, with Keras on JAX, with PyTorch.

    KERAS_BACKEND=jax python benchmarks/gpu.py captions_val2017.json

Install `pip install 'jax[cuda12]' torch torchvision` first. The training steps are those of training_step.py, with
PyTorch in bfloat16 too. Their limit is the time of the matrix products alone on the same GPU.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from _measure import make_parser, print_result, time_alternately

BATCH_SIZE = 64
BATCHES = 20


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("captions", type=Path, help="caption file of COCO")
    captions = parser.parse_args().captions
    import jax
    import keras
    import torch
    import training_step

    if keras.backend.backend() != "jax" or jax.default_backend() != "gpu" or not torch.cuda.is_available():
        raise SystemExit("this benchmark needs KERAS_BACKEND=jax and a GPU that JAX and PyTorch can use")
    training_step.measure(captions)
    seconds = time_alternately({"ours": _keras_job(), "peer": _torch_job()})
    ours, peer = (BATCH_SIZE * BATCHES / seconds[name] for name in ("ours", "peer"))
    title = "Inception V3 on a GPU, compared with PyTorch"
    print_result(title, f"{ours:.0f} images/s", f"{peer:.0f} images/s", f"{ours / peer:.1f} x")


def _random_pixels() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (BATCH_SIZE, 299, 299, 3)).astype(np.float32)


def _keras_job() -> Callable[[], object]:
    """Return a job that encodes the batches, transfers to and from the GPU included."""
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    network = keras.applications.InceptionV3(weights=None, include_top=False, pooling="avg")
    pixels = _random_pixels()
    return lambda: [network.predict_on_batch(pixels) for _ in range(BATCHES)]


def _torch_job() -> Callable[[], object]:
    import torch
    import torchvision

    network = torchvision.models.inception_v3(weights=None, init_weights=False).eval().cuda()
    pixels = torch.from_numpy(_random_pixels().transpose(0, 3, 1, 2).copy())

    @torch.inference_mode()
    def encode() -> None:
        for _ in range(BATCHES):
            with torch.autocast("cuda", torch.bfloat16):
                network(pixels.cuda()).float().cpu()

    return encode


if __name__ == "__main__":
    main()
