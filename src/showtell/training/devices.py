"""Data-parallel training: each device processes a part of every batch."""

from typing import Any

import keras
import numpy as np
from keras import distribution

from showtell.errors import ConfigurationError


def use_devices(count: int) -> None:
    """Use `count` devices for the training that follows: weights are replicated, batches are sharded.

    Loss and gradients are those of the whole batch. Except for rounding, training therefore reaches the same weights on
    any number of devices.

    Raises:
        ConfigurationError: if there are fewer devices, or if the Keras backend does not support data parallelism.
    """
    if count == 1:
        return
    # On TensorFlow, train_on_batch would process the whole batch on each device.
    if count > 1 and keras.backend.backend() != "jax":
        raise ConfigurationError(
            f"--devices {count}: several devices need the JAX backend, but Keras uses {keras.backend.backend()}; "
            "install jax and set KERAS_BACKEND=jax"
        )
    devices = distribution.list_devices() if count > 1 else []
    if not 1 <= count <= len(devices):
        available = f"{len(devices)} available: {', '.join(devices)}" if devices else "must be at least 1"
        raise ConfigurationError(f"--devices {count}: {available}")
    distribution.set_distribution(distribution.DataParallel(devices=devices[:count]))


def pad_for_devices(arrays: Any) -> Any:
    """Pad the first axis of each array with zeros to a multiple of the number of devices.

    A row of zeros is a caption of `<pad>`, which the loss ignores, or an image without captions.

    Args:
        arrays: an array (N, ...) or a dictionary of arrays.
    """
    active = distribution.distribution()
    if active is None:
        return arrays
    if isinstance(arrays, dict):
        return {name: pad_for_devices(array) for name, array in arrays.items()}
    missing = -len(arrays) % active.device_mesh.devices.size
    return np.pad(arrays, [(0, missing)] + [(0, 0)] * (arrays.ndim - 1))
