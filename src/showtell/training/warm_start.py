"""Training that starts from an existing captioner: a run or a bundle."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from showtell.encoder import Encoder, EncoderInfo
from showtell.errors import BundleError, ConfigurationError, MismatchError
from showtell.inference.bundle import DEFAULT_BUNDLE, Bundle
from showtell.inference.onnx_models import OnnxEncoder, open_session
from showtell.inference.search_options import SearchOptions
from showtell.recipe import EncoderConfig, Recipe
from showtell.training.decoders import DECODERS, Decoder
from showtell.training.encoders import EFFICIENTNET_LITE2, load_encoder, load_matching_encoder
from showtell.training.phases import load_best_decoder
from showtell.training.quantize import is_quantized
from showtell.training.run import START_ENCODER, START_WEIGHTS, Run
from showtell.training.tuned_encoder import fine_tuned_encoder_info, fine_tuned_encoder_path
from showtell.utils.files import atomic_write
from showtell.vocabulary import Vocabulary


@dataclass(frozen=True)
class WarmStart:
    """A captioner that a training starts from.

    Attributes:
        path: the run or bundle.
        vocabulary: the vocabulary.
        encoder: the identity of the encoder.
        encoder_config: the settings to load the encoder, or the encoder that it was fine-tuned from, by name.
        encoder_model: the encoder as an ONNX model; None if it can be loaded by name.
        kind: the name of the decoder.
        config: the arguments of the decoder's constructor.
        weights: the weights of the decoder, by the names of `Decoder.named_weights`.
        search_options: the default search options.
    """

    path: Path
    vocabulary: Vocabulary
    encoder: EncoderInfo
    encoder_config: EncoderConfig
    encoder_model: bytes | None
    kind: str
    config: dict[str, Any]
    weights: dict[str, np.ndarray]
    search_options: SearchOptions

    def apply_to(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the encoder, the decoder kind and size, and the search options of this captioner.

        Raises:
            ConfigurationError: if the recipe has a fine-tuning phase and the encoder cannot be fine-tuned.
        """
        model = self.encoder_model
        if recipe.fine_tuning.fine_tuning_epochs and model is not None:
            if is_quantized(model):
                raise ConfigurationError(
                    f"{self.path}: an int8 encoder cannot be fine-tuned; start from the run of this bundle, or "
                    "from a bundle exported without --int8"
                )
            if self.encoder.name != EFFICIENTNET_LITE2.stem:
                raise ConfigurationError(
                    f"{self.path}: the encoder {self.encoder.name} was fine-tuned before, and only "
                    f"{EFFICIENTNET_LITE2.stem} can be fine-tuned again; skip the phase with --fine-tuning-epochs 0"
                )
        weights = self._encoder_config_with(recipe.encoder.encoder_weights).encoder_weights
        return recipe.override({**self._fixed_settings(), "encoder_weights": weights})

    def require_agreement(self, settings: Mapping[str, Any]) -> None:
        """Raise ConfigurationError if requested settings contradict those that this captioner determines."""
        for name, value in self._fixed_settings().items():
            if settings.get(name, value) != value:
                raise ConfigurationError(
                    f"--{name.replace('_', '-')} {settings[name]} contradicts --start-from {self.path}, which has "
                    f"{value}. Tokenizer, encoder, decoder and search options cannot change; leave out this option"
                )

    def load_encoder(self, weights: str = EncoderConfig.encoder_weights) -> Encoder:
        """Load the encoder, to extract features of new images.

        Args:
            weights: the weights file of an encoder that is loaded by name, if the file was moved.

        Raises:
            MismatchError: if the encoder loaded by name is not the one that the captioner was trained with.
        """
        if self.encoder_model is not None:
            return OnnxEncoder(open_session(self.encoder_model), self.encoder)
        return load_matching_encoder(self._encoder_config_with(weights), self.encoder, self.path)

    def require_match(self, vocabulary: Vocabulary, captions: str, encoder: EncoderInfo | None, features: str) -> None:
        """Check that new data can be used with this captioner.

        Args:
            vocabulary: the new vocabulary.
            captions: the path of the captions with this vocabulary.
            encoder: the encoder of the features; None if unknown.
            features: the path of the features.

        Raises:
            MismatchError: if the vocabulary does not extend that of this captioner, or the encoders differ.
        """
        if not vocabulary.is_extension_of(self.vocabulary):
            raise MismatchError(
                f"{captions} has vocabulary {vocabulary.fingerprint}, which does not start with the "
                f"{len(self.vocabulary)} {self.vocabulary.unit} of {self.path} ({self.vocabulary.fingerprint}); create "
                f"it with: showtell prepare --start-from {shlex.quote(str(self.path))}"
            )
        if encoder != self.encoder:
            raise MismatchError(
                f"{features} was made with the encoder {encoder or 'unknown'}, but {self.path} needs {self.encoder}; "
                f"extract the features with: showtell extract --start-from {shlex.quote(str(self.path))}"
            )

    def save_to(self, folder: Path) -> None:
        """Write weights and encoder to a run folder, so that the run no longer needs this captioner."""
        with atomic_write(folder / START_WEIGHTS) as temporary:
            np.savez(temporary, **self.weights)  # type: ignore[arg-type]
        (folder / START_ENCODER).unlink(missing_ok=True)  # of an interrupted command with another --start-from
        if self.encoder_model is not None:
            with atomic_write(folder / START_ENCODER) as temporary:
                temporary.write_bytes(self.encoder_model)

    def _fixed_settings(self) -> dict[str, Any]:
        """Return the settings of a recipe that this captioner determines."""
        sizes = {name: self.config[name] for name in ("embedding_size", "units", "layers")}
        encoder = {name: getattr(self.encoder_config, name) for name in ("encoder", "grid")}
        search = {
            name: getattr(self.search_options, name) for name in ("beam_size", "length_penalty", "no_repeat_ngram_size")
        }
        return {"tokenizer": self.vocabulary.kind, "decoder": self.kind, **sizes, **encoder, **search}

    def _encoder_config_with(self, weights: str) -> EncoderConfig:
        if weights == EncoderConfig.encoder_weights:  # the default, so no other weights were requested
            return self.encoder_config
        return replace(self.encoder_config, encoder_weights=weights)


def load_warm_start(path: Path) -> WarmStart:
    """Load the best decoder and the encoder of a run, or those of a bundle.

    Args:
        path: a run or a bundle; "default" is the shipped bundle.

    Raises:
        ConfigurationError: if the run is not complete, or its encoder is unknown.
        BundleError: if there is neither a run nor a bundle, or if the weights in the bundle have no names.
    """
    if (path / "settings.json").is_file():
        return _from_run(Run.open(path))
    bundle = Bundle.load(path)
    return _from_bundle(DEFAULT_BUNDLE if str(path) == "default" else path, bundle)


def load_extended_weights(decoder: Decoder, weights: dict[str, np.ndarray]) -> int:
    """Load the weights of a decoder with a smaller vocabulary.

    New tokens keep their random embeddings. Their logits start as the mean of the logits of all old tokens. By Jensen's
    inequality, each new token then has at most 1/V of the probability of the V old ones, so it is never the most likely
    token (Hewitt 2021, https://nlp.stanford.edu/~johnhew/vocab-expansion.html). The decoder therefore generates the
    same captions until the new tokens are trained.

    Args:
        decoder: an untrained decoder.
        weights: the weights to load, by the names of `Decoder.named_weights`.

    Returns:
        The number of new tokens.
    """
    for name, weight in decoder.named_weights().items():
        old, value = weights[name], np.array(weight.numpy())
        if name.startswith("logits/"):
            value[...] = old.mean(axis=-1, keepdims=True)
        value[tuple(map(slice, old.shape))] = old
        weight.assign(value)
    return int(decoder.config["vocabulary_size"] - len(weights["word_embedding/embeddings"]))


def _from_run(run: Run) -> WarmStart:
    if run.encoder is None:
        raise ConfigurationError(
            f"{run.folder}: the encoder of the features is unknown, so no features of new images can be extracted; "
            "start from another run, or from a bundle"
        )
    decoder = load_best_decoder(run.last_phase)
    encoder, model = run.encoder, None
    if run.fine_tuning:
        encoder = fine_tuned_encoder_info(run.fine_tuning)
        model = fine_tuned_encoder_path(run.fine_tuning).read_bytes()
    elif run.start_encoder:
        model = run.start_encoder.read_bytes()
    weights = {name: np.array(weight.numpy()) for name, weight in decoder.named_weights().items()}
    return WarmStart(
        run.folder,
        run.vocabulary,
        encoder,
        run.recipe.encoder,
        model,
        decoder.kind,
        decoder.config,
        weights,
        run.search_options,
    )


def _from_bundle(path: Path, bundle: Bundle) -> WarmStart:
    arguments = dict(bundle.decoder)
    kind = arguments.pop("kind")
    try:
        decoder = DECODERS[kind](**arguments)
    except (KeyError, TypeError):
        raise BundleError(f"{path}: unknown decoder {kind}; update showtell") from None
    decoder.build()
    arrays = {}
    for file in ("decoder_start.onnx", "decoder_step.onnx"):
        for tensor in onnx.load_from_string(bundle.files[file]).graph.initializer:
            arrays[tensor.name] = numpy_helper.to_array(tensor)
    names = decoder.named_weights()
    if missing := [name for name in names if name not in arrays and f"{name}_quantized" not in arrays]:
        raise BundleError(
            f"{path}: the decoder's weights have no names ({missing[0]}), because an older showtell exported it; start "
            "from the run of this bundle, or export the run again"
        )
    weights = {name: _dequantize(name, arrays) for name in names}
    config = EncoderConfig(bundle.encoder.name, grid=bundle.encoder.cells > 1)
    # The shipped float encoder is better than its int8 version, and can be fine-tuned. Others may need a download.
    is_shipped = config.encoder == EFFICIENTNET_LITE2.stem and load_encoder(config).info == bundle.encoder
    model = None if is_shipped else bundle.files["encoder.onnx"]
    return WarmStart(
        path, bundle.vocabulary, bundle.encoder, config, model, kind, arguments, weights, bundle.search_options
    )


def _dequantize(name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return a weight in float32. A quantised weight has one scale, or one per column."""
    if name in arrays:
        return arrays[name].astype(np.float32)
    quantized = arrays[f"{name}_quantized"].astype(np.float32)
    # For a bias, which is quantised to 32 bits, the names of scale and zero point differ.
    prefix = name if f"{name}_scale" in arrays else f"{name}_quantized"
    return (quantized - arrays[f"{prefix}_zero_point"]) * arrays[f"{prefix}_scale"]
