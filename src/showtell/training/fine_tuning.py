"""The second phase: the encoder learns too, once the decoder has settled."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from PIL import Image

from showtell.data import extract_features
from showtell.encoder import EncoderInfo
from showtell.errors import ConfigurationError, ImageError
from showtell.images import batched
from showtell.inference.onnx_models import OnnxEncoder, open_session
from showtell.training.batches import WIDTH_STEP, TrainingSplit, batches_in
from showtell.training.decoders import Decoder, MaskedCrossEntropy
from showtell.training.devices import pad_for_devices
from showtell.training.encoders import trainable_network
from showtell.training.graphs import network_graph, require_network_graph
from showtell.training.phases import best_decoder, compile_model, improves
from showtell.training.quantize import calibration_images, quantize_encoder
from showtell.training.run import Run, save_model
from showtell.utils.files import atomic_write, sha256
from showtell.vocabulary import PAD

# A crop keeps at least so much of each side: captions tell what is at the border, too.
LEAST_CROP = 0.8
# Numbers of captions a batch are multiples of this, for the reason that WIDTH_STEP is there.
CAPTIONS_STEP = 8
ENCODED_AT_ONCE = 32


@keras.saving.register_keras_serializable("showtell")
class EncoderDecoder(keras.Model):
    """An encoder and a decoder as one model: images and tokens -> logits.

    Args:
        encoder: images (B, H, W, 3) uint8 -> features (B, G, D). Its batch-norm statistics stay as they are.
        decoder: features and tokens -> logits.
    """

    def __init__(self, encoder: keras.Model, decoder: Decoder, **kwargs: Any):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder

    def build(self, input_shape: Any = None) -> None:
        """Both are built already."""
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Take `images` (B, H, W, 3), `image_of` (N,), the image of each caption, and `tokens` (N, T)."""
        features = ops.take(self.encoder(inputs["images"], training=False), inputs["image_of"], axis=0)
        return self.decoder({"features": features, "tokens": inputs["tokens"]}, training=training)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        parts = {"encoder": self.encoder, "decoder": self.decoder}
        return {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "EncoderDecoder":
        """Make the model that `get_config` described."""
        return cls(*(keras.saving.deserialize_keras_object(config[name]) for name in ("encoder", "decoder")))


@keras.saving.register_keras_serializable("showtell")
class AdamTwoLearningRates(keras.optimizers.Adam):
    """Adam with a smaller learning rate for the first variables.

    Args:
        factor: what the learning rate is multiplied with for these variables.
        first: how many they are.
    """

    def __init__(self, factor: float = 1.0, first: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.factor = factor
        self.first = first

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        factor = self.factor if self._get_variable_index(variable) < self.first else 1.0
        super().update_step(gradient, variable, learning_rate * factor)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "factor": self.factor, "first": self.first}


class FineTuning:
    """Cross-entropy through decoder and encoder, on augmented images; each image comes with all its captions.

    The encoder learns with a rate of its own, smaller than the decoder's; both fall to 0 along a cosine. Batch-norm
    statistics are frozen. Images are cropped at random, and mirrored if the recipe says so. `best.keras` holds the
    decoder, and `encoder.onnx` beside it the encoder that it belongs to.

    Args:
        run: the run, in this phase's folder.
        before: the run in the folder of the phase before.
        training: captions and images.

    Raises:
        ConfigurationError: if the run does not know its images, or which encoder made its features, or if Keras'
            backend cannot write that encoder.
    """

    def __init__(self, run: Run, before: Run, training: TrainingSplit):
        if not run.sources.images or run.encoder is None:
            raise ConfigurationError(
                "fine-tuning goes through the encoder, but the run does not know its images, or which encoder made its "
                "features; name the images with --images, and extract the features with: showtell extract"
            )
        require_network_graph(run.encoder)
        self.run = run
        self.settings = run.recipe.fine_tuning
        self.epochs = self.settings.fine_tuning_epochs
        self.steps_an_epoch = batches_in(len(training.images), self.settings.fine_tuning_images)
        self._before = before
        self._training = training
        self._folders = [Path(folder) for folder in run.sources.images]
        self._info = run.encoder
        self._captions_of: dict[int, list[int]] = {}
        for caption, row in enumerate(training.feature_rows.tolist()):
            self._captions_of.setdefault(row, []).append(caption)

    def new_model(self) -> EncoderDecoder:
        """Join the encoder with the decoder of the phase before."""
        encoder = trainable_network(
            self.run.recipe.encoder, self.settings.fine_tuned_layers, self._before.start_encoder
        )
        model = EncoderDecoder(encoder, best_decoder(self._before))
        model.build()
        rate = self.settings.fine_tuning_learning_rate
        optimizer = AdamTwoLearningRates(
            self.settings.encoder_learning_rate / rate,
            len(encoder.trainable_variables),  # the model has them before the decoder's
            learning_rate=keras.optimizers.schedules.CosineDecay(rate, self.epochs * self.steps_an_epoch),
            global_clipnorm=self.run.recipe.training.clip_norm,
        )
        compile_model(model, optimizer, MaskedCrossEntropy(self.run.recipe.training.label_smoothing))
        return model

    def decoder(self, model: EncoderDecoder) -> Decoder:
        """Return the decoder."""
        return model.decoder

    def batches(self, epoch: int, first: int) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        """Yield ({"images": (B, H, W, 3), "image_of": (N,), "tokens": (N, T)}, targets (N, T)).

        The last captions may be empty: they fill the batch.
        """
        split, seed = self._training, self.run.recipe.training.seed
        size = min(self.settings.fine_tuning_images, len(split.images))
        order = np.random.default_rng((seed, epoch)).permutation(len(split.images))
        chosen = np.resize(order, (self.steps_an_epoch, size))[first:]
        loaded = self._loaded(self._folders[0], [split.images[position] for position in chosen.ravel()])
        for step, (positions, images) in enumerate(zip(chosen, batched(loaded, size), strict=True), start=first):
            generator = np.random.default_rng((seed, epoch, step))
            rows = [self._captions_of[row] for row in split.image_rows[positions].tolist()]
            captions = split.captions[np.concatenate(rows)]
            lacking = -len(captions) % CAPTIONS_STEP
            captions = np.pad(captions, ((0, lacking), (0, 0)), constant_values=PAD)
            longest = int((captions != PAD).sum(axis=1).max())
            width = min(-(-longest // WIDTH_STEP) * WIDTH_STEP, captions.shape[1])
            inputs = {
                "images": np.stack([augment(image, self.settings.mirror, generator) for image in images]),
                "image_of": np.pad(np.repeat(np.arange(size), list(map(len, rows))), (0, lacking)),
                "tokens": captions[:, : width - 1],
            }
            yield inputs, captions[:, 1:width]

    def train_on(self, model: EncoderDecoder, batch: Any, epoch: int) -> tuple[float, int]:
        """Take a step on inputs and targets."""
        inputs, targets = batch
        return float(model.train_on_batch(pad_for_devices(inputs), pad_for_devices(targets))), int(
            (targets[:, 0] != PAD).sum()
        )

    def encoded(self, model: EncoderDecoder, split: TrainingSplit) -> TrainingSplit:
        """Return the split with features of the encoder as it is now."""
        features = [
            model.encoder.predict_on_batch(np.stack(images))
            for images in batched(self._loaded(self._folders[-1], split.images), ENCODED_AT_ONCE)
        ]
        return split.with_features(np.concatenate(features))

    def is_better(self, record: dict[str, Any], best: dict[str, Any]) -> bool:
        """Compare CIDEr, then the loss."""
        return improves(record, best)

    def save_best(self, model: EncoderDecoder) -> None:
        """Write the encoder, and the decoder last."""
        with atomic_write(self.run.folder / "encoder.onnx") as temporary:
            temporary.write_bytes(network_graph(self._info, model.encoder).SerializeToString())
        save_model(model.decoder, self.run.best)

    def _loaded(self, folder: Path, names: Sequence[str]) -> Iterator[np.ndarray]:
        for pixels in self._info.preprocess.load_all(folder / name for name in names):
            if isinstance(pixels, ImageError):  # it had features once
                raise pixels
            yield pixels


def tuned_info(run: Run) -> EncoderInfo:
    """Describe the encoder of a fine-tuning that is over. Raises ConfigurationError if it is not."""
    path = run.folder / "encoder.onnx"
    if run.encoder is None or len(run.history()) <= run.recipe.fine_tuning.fine_tuning_epochs:
        raise ConfigurationError(f"{run.folder}: the fine-tuning has not come to an end yet; go on with --resume")
    # One fingerprint for float and 8 bits: a quantised encoder goes by what it was made from.
    return replace(run.encoder, fingerprint=sha256(path)[:12])


def int8_encoder_file(run: Run) -> Path:
    """Return where the encoder of a fine-tuning that is over is kept in 8 bits."""
    return run.folder / f"encoder-int8-{tuned_info(run).fingerprint}.onnx"


def tuned_encoder(run: Run, training: TrainingSplit, int8: bool) -> OnnxEncoder:
    """Return the encoder of a fine-tuning that is over, as it was trained, or quantised to 8 bits.

    Args:
        run: the run, in the folder of its fine-tuning.
        training: images for calibration.
        int8: whether to take it in 8 bits; it is quantised once, and kept.

    Raises:
        ConfigurationError: if the fine-tuning is not over.
    """
    info, path = tuned_info(run), run.folder / "encoder.onnx"
    if int8:
        source, path = path, int8_encoder_file(run)
        if not path.exists():
            pixels = calibration_images(info.preprocess, Path(run.sources.images[0]), training.images)
            with atomic_write(path) as temporary:
                temporary.write_bytes(quantize_encoder(source.read_bytes(), pixels))
    return OnnxEncoder(open_session(path), info)


def tuned_features(
    run: Run,
    training: TrainingSplit,
    validation: TrainingSplit | None,
    say: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> tuple[TrainingSplit, TrainingSplit | None]:
    """Quantise the fine-tuned encoder, and return the splits with its features.

    A decoder that goes on learning with the features of the very encoder that ships loses nothing by the 8 bits.

    Args:
        run: the run, in the folder of its fine-tuning, which is over.
        training: what to train on.
        validation: what to validate with, if anything.
        say: called with a line before each extraction, unless its features are there already.
        progress: called after every few images with the number done, and in all; what it raises stops the extraction,
            which goes on there when it is called again.
    """
    folders = [Path(folder) for folder in run.sources.images]
    encoder = tuned_encoder(run, training, int8=True)

    def extracted(split: TrainingSplit, folder: Path, name: str) -> TrainingSplit:
        if not (run.folder / name).exists():
            say(f"extracting features of {len(split.images)} images with the fine-tuned encoder in 8 bits")
        images = [(image, folder / image) for image in split.images]
        features = extract_features(images, encoder, run.folder / name, progress=progress)
        if features.failed:
            raise ImageError(features.failed[0][1])
        return split.with_features(features.array)

    training = extracted(training, folders[0], "train.npy")
    return training, validation and extracted(validation, folders[-1], "val.npy")


def augment(image: np.ndarray, mirror: bool, generator: np.random.Generator) -> np.ndarray:
    """Return a random crop of an image (S, S, 3) uint8, scaled back to its size; half of them mirrored, if asked."""
    size = len(image)
    width, height = generator.uniform(LEAST_CROP * size, size, 2)
    left, top = generator.uniform(0, (size - width, size - height))
    picture = Image.fromarray(image)
    if mirror and generator.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    box = (left, top, left + width, top + height)
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box))
