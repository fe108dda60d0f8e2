"""On a GPU: steps of training and Inception V3 through Keras on JAX, against the same in PyTorch.

    KERAS_BACKEND=jax python benchmarks/gpu.py captions_val2017.json

Needs `pip install 'jax[cuda12]' torch torchvision`. Its training steps are those of training_step.py, PyTorch's in
bfloat16 too; the limit is the products of matrices alone on that GPU.
"""

from collections.abc import Callable

import jax
import keras
import numpy as np
import torch
import torchvision
import training_step
from _measure import interleaved, tell

BATCH_SIZE = 64
BATCHES = 20


def main() -> None:
    """Measure and print."""
    if keras.backend.backend() != "jax" or jax.default_backend() != "gpu" or not torch.cuda.is_available():
        raise SystemExit("needs a GPU that JAX and PyTorch can use, and KERAS_BACKEND=jax")
    training_step.main()
    seconds = interleaved({"ours": _with_keras(), "theirs": _with_torch()})
    ours, theirs = (BATCH_SIZE * BATCHES / seconds[name] for name in ("ours", "theirs"))
    tell("Inception V3", f"{ours:.0f} images/s", f"{theirs:.0f} images/s", f"{ours / theirs:.1f} x", "")


def _pixels() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (BATCH_SIZE, 299, 299, 3)).astype(np.float32)


def _with_keras() -> Callable[[], object]:
    """Return a job that encodes the batches, each of which travels to the GPU and its features back."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    network = keras.applications.InceptionV3(weights=None, include_top=False, pooling="avg")
    pixels = _pixels()
    return lambda: [network.predict_on_batch(pixels) for _ in range(BATCHES)]


def _with_torch() -> Callable[[], object]:
    network = torchvision.models.inception_v3(weights=None, init_weights=False).eval().cuda()
    pixels = torch.from_numpy(_pixels().transpose(0, 3, 1, 2).copy())

    @torch.inference_mode()
    def encode() -> None:
        for _ in range(BATCHES):
            with torch.autocast("cuda", torch.bfloat16):
                network(pixels.cuda()).float().cpu()

    return encode


if __name__ == "__main__":
    main()
