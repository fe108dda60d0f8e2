"""The second phase: train encoder and decoder together."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from PIL import Image

from showtell.errors import ConfigurationError, ImageError
from showtell.training.batches import WIDTH_STEP, TrainingSplit, count_batches
from showtell.training.checkpoints import save_model
from showtell.training.decoders import Decoder
from showtell.training.devices import pad_for_devices
from showtell.training.encoders import build_trainable_network
from showtell.training.loss import MaskedCrossEntropy
from showtell.training.onnx_graphs import export_network, require_exportable
from showtell.training.phases import compile_model, is_improvement, load_best_decoder
from showtell.training.run import Run
from showtell.training.tuned_encoder import fine_tuned_encoder_path
from showtell.utils.files import atomic_write
from showtell.utils.iterables import batched
from showtell.vocabulary import PAD

# Captions also describe objects near the border of an image, so crops must be large.
MIN_CROP = 0.8  # share of each side
# The number of captions per batch is a multiple of this, because a backend may compile each shape separately.
CAPTIONS_STEP = 8
ENCODER_BATCH_SIZE = 32


@keras.saving.register_keras_serializable("showtell")
class EncoderDecoder(keras.Model):
    """Encoder and decoder as one model: images and tokens -> logits.

    Args:
        encoder: images (B, H, W, 3) uint8 -> features (B, G, D). Its batch normalisation statistics are frozen.
        decoder: features and tokens -> logits.
    """

    def __init__(self, encoder: keras.Model, decoder: Decoder, **kwargs: Any):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder

    def build(self, input_shape: Any = None) -> None:
        """Do nothing: both parts are already built."""
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Return logits (N, T, V).

        Args:
            inputs: `images` (B, H, W, 3) uint8, `image_of` (N,) the image index of each caption, and `tokens` (N, T).
            training: whether to apply dropout.
        """
        features = ops.take(self.encoder(inputs["images"], training=False), inputs["image_of"], axis=0)
        return self.decoder({"features": features, "tokens": inputs["tokens"]}, training=training)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        parts = {"encoder": self.encoder, "decoder": self.decoder}
        return {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "EncoderDecoder":
        """Create the model from the result of `get_config`."""
        return cls(*(keras.saving.deserialize_keras_object(config[name]) for name in ("encoder", "decoder")))


@keras.saving.register_keras_serializable("showtell", name="TwoRates")  # the name in existing checkpoints
class AdamTwoLearningRates(keras.optimizers.Adam):
    """Adam with a separate learning rate for the first variables.

    Args:
        factor: factor of the learning rate of these variables.
        first: the number of these variables.
        **kwargs: arguments of Adam.
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
        """Return the arguments of the constructor."""
        return {**super().get_config(), "factor": self.factor, "first": self.first}


class FineTuning:
    """Cross-entropy training of encoder and decoder on augmented images. Each image comes with all its captions.

    Encoder and decoder have separate learning rates with cosine decay to 0. Batch normalisation statistics are frozen.
    Images are cropped at random and, depending on the recipe, mirrored. The result is the decoder in `best.keras` and
    the encoder in `encoder.onnx`.

    Args:
        run: the run, with the folder of this phase.
        previous: the run, with the folder of the previous phase.
        training: captions and images.

    Raises:
        ConfigurationError: if the images or the encoder of the run are unknown, or if the Keras backend cannot export
            the encoder.
    """

    def __init__(self, run: Run, previous: Run, training: TrainingSplit):
        if not run.data_paths.images or run.encoder is None:
            raise ConfigurationError(
                "fine-tuning needs the images and the encoder, but they are unknown; pass the image folder with "
                "--images, and features made by `showtell extract`"
            )
        require_exportable(run.encoder)
        self.run = run
        self.settings = run.recipe.fine_tuning
        self.epochs = self.settings.fine_tuning_epochs
        self.steps_per_epoch = count_batches(len(training.images), self.settings.fine_tuning_images)
        self._previous = previous
        self._training = training
        self._folders = [Path(folder) for folder in run.data_paths.images]
        self._info = run.encoder
        self._captions_of: dict[int, list[int]] = {}
        for caption, row in enumerate(training.feature_rows.tolist()):
            self._captions_of.setdefault(row, []).append(caption)

    def build_model(self) -> EncoderDecoder:
        """Combine the encoder with the decoder of the previous phase."""
        encoder = build_trainable_network(
            self.run.recipe.encoder, self.settings.fine_tuned_layers, self._previous.start_encoder
        )
        model = EncoderDecoder(encoder, load_best_decoder(self._previous))
        model.build()
        learning_rate = self.settings.fine_tuning_learning_rate
        optimizer = AdamTwoLearningRates(
            self.settings.encoder_learning_rate / learning_rate,
            len(encoder.trainable_variables),  # the first variables of the model
            learning_rate=keras.optimizers.schedules.CosineDecay(learning_rate, self.epochs * self.steps_per_epoch),
            global_clipnorm=self.run.recipe.training.clip_norm,
        )
        compile_model(model, optimizer, MaskedCrossEntropy(self.run.recipe.training.label_smoothing))
        return model

    def get_decoder(self, model: EncoderDecoder) -> Decoder:
        """Return the decoder."""
        return model.decoder

    def generate_batches(self, epoch: int, first: int) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        """Yield ({"images": (B, H, W, 3), "image_of": (N,), "tokens": (N, T)}, targets (N, T)).

        The last captions may be padding only, so that N is a multiple of CAPTIONS_STEP.
        """
        split, seed = self._training, self.run.recipe.training.seed
        batch_size = min(self.settings.fine_tuning_images, len(split.images))
        order = np.random.default_rng((seed, epoch)).permutation(len(split.images))
        batches = np.resize(order, (self.steps_per_epoch, batch_size))[first:]
        loaded = self._load_images(self._folders[0], [split.images[position] for position in batches.ravel().tolist()])
        for step, (positions, images) in enumerate(zip(batches, batched(loaded, batch_size), strict=True), start=first):
            generator = np.random.default_rng((seed, epoch, step))
            rows = [self._captions_of[row] for row in split.image_rows[positions].tolist()]
            captions = split.captions[np.concatenate(rows)]
            padding = -len(captions) % CAPTIONS_STEP
            captions = np.pad(captions, ((0, padding), (0, 0)), constant_values=PAD)
            longest = int((captions != PAD).sum(axis=1).max())
            width = min(-(-longest // WIDTH_STEP) * WIDTH_STEP, captions.shape[1])
            inputs = {
                "images": np.stack([augment(image, self.settings.mirror, generator) for image in images]),
                "image_of": np.pad(np.repeat(np.arange(batch_size), list(map(len, rows))), (0, padding)),
                "tokens": captions[:, : width - 1],
            }
            yield inputs, captions[:, 1:width]

    def train_step(self, model: EncoderDecoder, batch: Any, epoch: int) -> tuple[float, int]:
        """Train on (inputs, targets); return the loss and the number of captions."""
        inputs, targets = batch
        loss = float(model.train_on_batch(pad_for_devices(inputs), pad_for_devices(targets)))
        return loss, int((targets[:, 0] != PAD).sum())

    def encode_split(self, model: EncoderDecoder, split: TrainingSplit) -> TrainingSplit:
        """Return the split with features of the current encoder."""
        features = [
            model.encoder.predict_on_batch(np.stack(images))
            for images in batched(self._load_images(self._folders[-1], split.images), ENCODER_BATCH_SIZE)
        ]
        return split.with_features(np.concatenate(features))

    def is_better(self, record: dict[str, Any], best: dict[str, Any]) -> bool:
        """Compare CIDEr, then the validation loss."""
        return is_improvement(record, best)

    def save_best(self, model: EncoderDecoder) -> None:
        """Save the encoder, and then the decoder."""
        with atomic_write(fine_tuned_encoder_path(self.run)) as temporary:
            temporary.write_bytes(export_network(self._info, model.encoder).SerializeToString())
        save_model(model.decoder, self.run.best_path)

    def _load_images(self, folder: Path, names: Sequence[str]) -> Iterator[np.ndarray]:
        for pixels in self._info.preprocess.load_all(folder / name for name in names):
            if isinstance(pixels, ImageError):  # the image was readable when its features were extracted
                raise pixels
            yield pixels


def augment(image: np.ndarray, mirror: bool, generator: np.random.Generator) -> np.ndarray:
    """Return a random crop of an image (S, S, 3) uint8, resized to the same size.

    Args:
        image: the image.
        mirror: mirror the crop with a probability of one half.
        generator: random generator.
    """
    size = len(image)
    width, height = generator.uniform(MIN_CROP * size, size, 2)
    left, top = generator.uniform(0, (size - width, size - height))
    crop = Image.fromarray(image)
    if mirror and generator.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    box = (left, top, left + width, top + height)
    return np.asarray(crop.resize((size, size), Image.Resampling.BICUBIC, box))
