"""Several devices: each takes a part of every batch, and all take the same step."""

from typing import Any

import keras
import numpy as np
from keras import distribution

from showtell.errors import ConfigurationError


def use_devices(count: int) -> None:
    """Have what is trained from now on use `count` devices: weights are copied to each, batches are shared out.

    A step is computed as one program whose loss and gradients are those of the whole batch, so that a training comes to
    the same weights on any number of devices, but for rounding.

    Raises:
        ConfigurationError: if there are fewer devices, or Keras' backend shares out nothing.
    """
    if count == 1:
        return
    # TensorFlow's MirroredStrategy gives each device the whole batch where Keras is handed one batch at a time.
    if count > 1 and keras.backend.backend() != "jax":
        raise ConfigurationError(
            f"--devices {count}: several devices need JAX, and Keras runs on {keras.backend.backend()}; install jax, "
            "and set KERAS_BACKEND=jax"
        )
    devices = distribution.list_devices() if count > 1 else []
    if not 1 <= count <= len(devices):
        there = f"; there are {len(devices)}: {', '.join(devices)}" if devices else "; it must be at least 1"
        raise ConfigurationError(f"--devices {count}{there}")
    distribution.set_distribution(distribution.DataParallel(devices=devices[:count]))


def pad_for_devices(arrays: Any) -> Any:
    """Fill the first axis of each array up with zeros, so that the devices in use divide it.

    A row of zeros is a caption of `<pad>`, which no loss counts, or an image that no caption is of.

    Args:
        arrays: an array (N, ..) or a dictionary of such.
    """
    chosen = distribution.distribution()
    if chosen is None:
        return arrays
    if isinstance(arrays, dict):
        return {name: pad_for_devices(array) for name, array in arrays.items()}
    lacking = -len(arrays) % chosen.device_mesh.devices.size
    return np.pad(arrays, [(0, lacking)] + [(0, 0)] * (arrays.ndim - 1))
