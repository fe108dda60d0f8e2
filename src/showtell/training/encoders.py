"""The available image encoders."""

import hashlib
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from showtell.encoder import Encoder, EncoderInfo
from showtell.errors import ConfigurationError, MismatchError
from showtell.images import Preprocess
from showtell.inference.onnx_models import OnnxEncoder, open_session
from showtell.recipe import EncoderConfig
from showtell.training import require_keras
from showtell.utils.files import sha256

EFFICIENTNET_LITE2 = Path(__file__).parent.parent / "pretrained" / "efficientnet_lite2.onnx"

# Keras Applications: module, class, and the image size of the ImageNet weights.
KERAS_APPLICATIONS = {
    "inception_v3": ("inception_v3", "InceptionV3", 299),
    "resnet50": ("resnet", "ResNet50", 224),
    "mobilenet_v2": ("mobilenet_v2", "MobileNetV2", 224),
    "efficientnet_v2_b0": ("efficientnet_v2", "EfficientNetV2B0", 224),
}
ENCODERS = ("efficientnet_lite2", *KERAS_APPLICATIONS)


def load_encoder(config: EncoderConfig) -> Encoder:
    """Load an encoder by name.

    Raises:
        ConfigurationError: if the name is unknown, or the weights cannot be loaded.
        MissingExtra: if the encoder needs Keras and Keras is not installed.
    """
    if config.encoder == "efficientnet_lite2":
        if config.encoder_weights != "imagenet":
            raise ConfigurationError("efficientnet_lite2 ships with ImageNet weights; leave out --encoder-weights")
        output = _output_name(config)
        shape = (49, 352) if config.grid else (1, 1280)
        fingerprint = hashlib.sha256(f"{sha256(EFFICIENTNET_LITE2)} {output}".encode()).hexdigest()[:12]
        info = EncoderInfo(config.encoder, fingerprint, Preprocess(), *shape)
        return OnnxEncoder(open_session(EFFICIENTNET_LITE2), info, output)
    if config.encoder in KERAS_APPLICATIONS:
        require_keras(f"the encoder {config.encoder}")
        return KerasEncoder(config)
    raise ConfigurationError(f"unknown encoder {config.encoder!r}; available: {', '.join(ENCODERS)}")


def load_matching_encoder(config: EncoderConfig, expected: EncoderInfo, path: Path) -> Encoder:
    """Load an encoder by name, and check that the captioner at `path` was trained with it.

    Raises:
        MismatchError: if the encoder is a different one.
        ConfigurationError, MissingExtra: as for `load_encoder`.
    """
    encoder = load_encoder(config)
    if encoder.info != expected:
        raise MismatchError(
            f"{path} was trained on features of {expected}, but the loaded encoder is {encoder.info}; pass the weights "
            "that the features were extracted with: --encoder-weights FILE"
        )
    return encoder


def _output_name(config: EncoderConfig) -> str:
    return "grid" if config.grid else "pooled"


def _list_layers(model: Any) -> list[Any]:
    """Return the layers of a model and of the models in it."""
    return [inner for layer in model.layers for inner in (_list_layers(layer) if hasattr(layer, "layers") else [layer])]


def build_trainable_network(config: EncoderConfig, layers: int, file: Path | None = None) -> Any:
    """Return an encoder as a trainable Keras model: images (N, H, W, 3) uint8 -> features (N, G, D).

    Only the last `layers` layers with weights are trainable. Batch normalisation stays frozen, because statistics of
    small batches are unreliable.

    Args:
        config: the encoder.
        layers: number of trainable layers.
        file: ONNX file of an efficientnet_lite2 that was fine-tuned before; None for the ImageNet weights.
    """
    import keras

    policy = keras.config.dtype_policy()
    # On a CPU, gradients of convolutions are slower in bfloat16 than in float32.
    keras.config.set_dtype_policy("float32")
    try:
        if config.encoder == "efficientnet_lite2":
            from showtell.training.efficientnet_lite import build_network

            source = (file, "features") if file else (EFFICIENTNET_LITE2, _output_name(config))
            network = build_network(*source)
        else:
            network = KerasEncoder(config).model
    finally:
        keras.config.set_dtype_policy(policy)
    all_layers = _list_layers(network)
    batch_norms = [layer for layer in all_layers if isinstance(layer, keras.layers.BatchNormalization)]
    others = [layer for layer in all_layers if layer.weights and layer not in batch_norms]
    for layer in (*batch_norms, *others[:-layers]):
        layer.trainable = False
    return network


class KerasEncoder:
    """A network of Keras Applications without its classifier, with input scaling.

    Pooled features are the mean over the last feature grid; for `inception_v3`, this is the tutorial's `pool_3`.
    """

    def __init__(self, config: EncoderConfig):
        import keras

        module_name, class_name, size = KERAS_APPLICATIONS[config.encoder]
        module: Any = import_module(f"keras.applications.{module_name}")
        pixels = keras.Input((size, size, 3), dtype="uint8", name="images")
        scaled = module.preprocess_input(keras.ops.cast(pixels, "float32"))
        weights = "imagenet" if config.encoder_weights == "imagenet" else None
        if config.encoder_weights == "none":
            keras.utils.set_random_seed(0)  # the same random weights each time
        try:
            network = getattr(module, class_name)(
                include_top=False, weights=weights, pooling=None if config.grid else "avg", input_shape=(size, size, 3)
            )
            if config.encoder_weights not in ("imagenet", "none"):
                network.load_weights(config.encoder_weights)
        except Exception as error:  # the download, h5py and Keras raise their own exceptions
            raise ConfigurationError(
                f"cannot load weights {config.encoder_weights!r} of {config.encoder}: "
                f"{' '.join(str(error).split())[:200]}; pass a weights file with --encoder-weights FILE"
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
        """Return features (N, G, D) float32 of images (N, H, W, 3) uint8."""
        return np.asarray(self.model.predict_on_batch(images))
