"""The table of encoders."""

import hashlib
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from showtell.encoder import Encoder, EncoderInfo
from showtell.errors import ConfigurationError
from showtell.images import Preprocess
from showtell.inference.onnx_models import OnnxEncoder, open_session
from showtell.recipe import EncoderConfig
from showtell.training import require_keras
from showtell.utils.files import sha256

EFFICIENTNET_LITE2 = Path(__file__).parent.parent / "pretrained" / "efficientnet_lite2.onnx"

# Keras Applications: module, class, and the image size that the ImageNet weights were trained for.
KERAS_APPLICATIONS = {
    "inception_v3": ("inception_v3", "InceptionV3", 299),
    "resnet50": ("resnet", "ResNet50", 224),
    "mobilenet_v2": ("mobilenet_v2", "MobileNetV2", 224),
    "efficientnet_v2_b0": ("efficientnet_v2", "EfficientNetV2B0", 224),
}
ENCODERS = ("efficientnet_lite2", *KERAS_APPLICATIONS)


def load_encoder(config: EncoderConfig) -> Encoder:
    """Load an encoder of the table.

    Raises:
        ConfigurationError: if there is none of that name, or its weights cannot be had.
        MissingExtra: if it needs Keras, which is not installed.
    """
    if config.encoder == "efficientnet_lite2":
        if config.encoder_weights != "imagenet":
            raise ConfigurationError("efficientnet_lite2 has the weights that ship with showtell: imagenet, no others")
        output = _output(config)
        shape = (49, 352) if config.grid else (1, 1280)
        fingerprint = hashlib.sha256(f"{sha256(EFFICIENTNET_LITE2)} {output}".encode()).hexdigest()[:12]
        info = EncoderInfo(config.encoder, fingerprint, Preprocess(), *shape)
        return OnnxEncoder(open_session(EFFICIENTNET_LITE2), info, output)
    if config.encoder in KERAS_APPLICATIONS:
        require_keras(f"the encoder {config.encoder}")
        return KerasEncoder(config)
    raise ConfigurationError(f"no encoder {config.encoder!r}; there are {', '.join(ENCODERS)}")


def _output(config: EncoderConfig) -> str:
    return "grid" if config.grid else "pooled"


def _leaves(model: Any) -> list[Any]:
    return [leaf for layer in model.layers for leaf in (_leaves(layer) if hasattr(layer, "layers") else [layer])]


def trainable_network(config: EncoderConfig, layers: int, file: Path | None = None) -> Any:
    """Return an encoder of the table as a Keras model, images (N, H, W, 3) uint8 -> features (N, G, D), to be trained.

    Only its last `layers` layers with weights will learn. Batch normalisation never does: its statistics would be those
    of small batches.

    Args:
        config: which encoder.
        layers: how many of its layers will learn.
        file: ONNX, efficientnet_lite2 with other weights than those of the table.
    """
    import keras

    policy = keras.config.dtype_policy()
    # On a CPU the gradients of convolutions are slower in bfloat16 than in single precision.
    keras.config.set_dtype_policy("float32")
    try:
        if config.encoder == "efficientnet_lite2":
            from showtell.training.efficientnet_lite import network as efficientnet_lite

            source = (file, "features") if file else (EFFICIENTNET_LITE2, _output(config))
            network = efficientnet_lite(*source)
        else:
            network = KerasEncoder(config).model
    finally:
        keras.config.set_dtype_policy(policy)
    flat = _leaves(network)
    normalising = [layer for layer in flat if isinstance(layer, keras.layers.BatchNormalization)]
    learning = [layer for layer in flat if layer.weights and layer not in normalising]
    for layer in (*normalising, *learning[:-layers]):
        layer.trainable = False
    return network


class KerasEncoder:
    """A network of Keras Applications without its classifier, input scaling included.

    Pooled, it gives the mean of the last layer's cells: for `inception_v3` that is the tutorial's `pool_3`.
    """

    def __init__(self, config: EncoderConfig):
        import keras

        module_name, class_name, size = KERAS_APPLICATIONS[config.encoder]
        module: Any = import_module(f"keras.applications.{module_name}")
        pixels = keras.Input((size, size, 3), dtype="uint8", name="images")
        scaled = module.preprocess_input(keras.ops.cast(pixels, "float32"))
        weights = "imagenet" if config.encoder_weights == "imagenet" else None
        if config.encoder_weights == "none":
            keras.utils.set_random_seed(0)  # "none" is the same encoder every time
        try:
            network = getattr(module, class_name)(
                include_top=False, weights=weights, pooling=None if config.grid else "avg", input_shape=(size, size, 3)
            )
            if config.encoder_weights not in ("imagenet", "none"):
                network.load_weights(config.encoder_weights)
        except Exception as error:  # downloading, h5py and Keras each raise their own
            raise ConfigurationError(
                f"weights {config.encoder_weights!r} for {config.encoder} cannot be loaded "
                f"({' '.join(str(error).split())[:200]}); name a file of them with --encoder-weights FILE"
            ) from None
        output = network(scaled)
        channels = int(output.shape[-1])
        cells = int(np.prod(output.shape[1:-1], dtype=int)) if config.grid else 1
        features = keras.layers.Reshape((cells, channels))(output)
        self.model = keras.Model(pixels, features)
        digest = hashlib.sha256(b"grid" if config.grid else b"pooled")
        for weight in network.get_weights():
            digest.update(np.asarray(weight).tobytes())
        preprocess = Preprocess(size, "squash", "bilinear")
        self.info = EncoderInfo(config.encoder, digest.hexdigest()[:12], preprocess, cells, channels)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Take images (N, H, W, 3) uint8; return features (N, G, D) float32."""
        return np.asarray(self.model.predict_on_batch(images))
