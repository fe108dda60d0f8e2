"""Training that starts from a captioner that is there: an earlier run, or a bundle."""

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
from showtell.inference.bundle import Bundle
from showtell.inference.onnx_models import OnnxEncoder, open_session
from showtell.inference.search import SearchOptions
from showtell.recipe import EncoderConfig, Recipe
from showtell.training.decoders import DECODERS, Decoder
from showtell.training.encoders import EFFICIENTNET_LITE2, load_encoder
from showtell.training.fine_tuning import tuned_info
from showtell.training.phases import best_decoder
from showtell.training.quantize import is_quantized
from showtell.training.run import START_ENCODER, START_WEIGHTS, Run
from showtell.utils.files import atomic_write
from showtell.vocabulary import Vocabulary


@dataclass(frozen=True)
class WarmStart:
    """A captioner that a training starts from.

    Attributes:
        path: the run or bundle that it is from.
        vocabulary: its words.
        encoder: what its encoder is.
        encoder_config: the entry in the table of encoders that its encoder is, or was made from.
        encoder_model: its encoder, ONNX; None if that is the table's own.
        kind: the decoder's name.
        config: the arguments that the decoder was made with.
        weights: the decoder's, by the names of `Decoder.named_weights`.
        search_options: how it seeks captions.
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

    def applied_to(self, recipe: Recipe) -> Recipe:
        """Return the recipe with this encoder, a decoder of this kind and size, and this way of seeking captions.

        Raises ConfigurationError if the recipe would fine-tune the encoder, and it cannot be.
        """
        model = self.encoder_model
        if recipe.fine_tuning.fine_tuning_epochs and model is not None:
            if is_quantized(model):
                raise ConfigurationError(
                    f"{self.path}: its encoder is in 8 bits and cannot be fine-tuned; start from the run that it was "
                    "exported from, or from a bundle exported without --int8"
                )
            if self.encoder.name != EFFICIENTNET_LITE2.stem:
                raise ConfigurationError(
                    f"{self.path}: its encoder {self.encoder.name} was fine-tuned, and only {EFFICIENTNET_LITE2.stem} "
                    "can be again; leave the phase out with --fine-tuning-epochs 0"
                )
        weights = self._entry(recipe.encoder.encoder_weights).encoder_weights
        return recipe.override({**self._kept(), "encoder_weights": weights})

    def require_agreement(self, settings: Mapping[str, Any]) -> None:
        """Raise ConfigurationError if settings that someone asks for are others than this start keeps."""
        for name, kept in self._kept().items():
            if settings.get(name, kept) != kept:
                raise ConfigurationError(
                    f"--{name.replace('_', '-')} {settings[name]} with --start-from {self.path}, which has {kept}; "
                    "tokenizer, encoder, decoder and way of searching stay what they are: leave the option out"
                )

    def load_encoder(self, weights: str = EncoderConfig.encoder_weights) -> Encoder:
        """Load the encoder that new features must come from.

        Args:
            weights: where the weights of one of the table are, unless they are where they were.

        Raises:
            MismatchError: if the table's encoder is no longer the one that the captioner was trained with.
        """
        if self.encoder_model is not None:
            return OnnxEncoder(open_session(self.encoder_model), self.encoder)
        encoder = load_encoder(self._entry(weights))
        if encoder.info != self.encoder:
            raise MismatchError(
                f"{self.path} was trained on features of {self.encoder}, but the encoder at hand is {encoder.info}; "
                "name the weights that those features were extracted with: --encoder-weights"
            )
        return encoder

    def require_fitting(
        self, vocabulary: Vocabulary, captions: str, encoder: EncoderInfo | None, features: str
    ) -> None:
        """Raise MismatchError unless a vocabulary goes on from this one, and features are of this encoder.

        Args:
            vocabulary: the new vocabulary.
            captions: the file that it is from.
            encoder: the encoder of the features, if they say so.
            features: the file that they are in.
        """
        if not vocabulary.is_extension_of(self.vocabulary):
            raise MismatchError(
                f"{captions} has vocabulary {vocabulary.fingerprint}, which does not begin with the "
                f"{len(self.vocabulary)} {self.vocabulary.unit} of {self.path} ({self.vocabulary.fingerprint}); "
                f"make it with: showtell prepare --start-from {shlex.quote(str(self.path))}"
            )
        if encoder != self.encoder:
            raise MismatchError(
                f"{features} was made with encoder {encoder or 'unknown'}, {self.path} with {self.encoder}; "
                f"extract the features with: showtell extract --start-from {shlex.quote(str(self.path))}"
            )

    def _kept(self) -> dict[str, Any]:
        sizes = {name: self.config[name] for name in ("embedding_size", "units", "layers")}
        encoder = {name: getattr(self.encoder_config, name) for name in ("encoder", "grid")}
        search = {
            name: getattr(self.search_options, name) for name in ("beam_size", "length_penalty", "no_repeat_ngram_size")
        }
        return {"tokenizer": self.vocabulary.kind, "decoder": self.kind, **sizes, **encoder, **search}

    def _entry(self, weights: str) -> EncoderConfig:
        moved = weights != EncoderConfig.encoder_weights
        return replace(self.encoder_config, encoder_weights=weights) if moved else self.encoder_config

    def keep_in(self, folder: Path) -> None:
        """Write what a run needs of this into its folder, so that it needs this no more."""
        with atomic_write(folder / START_WEIGHTS) as temporary:
            np.savez(temporary, **self.weights)  # type: ignore[arg-type]
        (folder / START_ENCODER).unlink(missing_ok=True)  # an earlier command's, with another start
        if self.encoder_model is not None:
            with atomic_write(folder / START_ENCODER) as temporary:
                temporary.write_bytes(self.encoder_model)


def load_warm_start(path: Path) -> WarmStart:
    """Read a run's best decoder and its encoder, or a bundle's.

    Raises:
        ConfigurationError: if the run is not over, or does not know its encoder.
        BundleError: if it is no bundle, or one that does not name its weights.
    """
    return _from_run(Run.open(path)) if (path / "settings.json").is_file() else _from_bundle(path, Bundle.load(path))


def load_extended_weights(decoder: Decoder, weights: dict[str, np.ndarray]) -> int:
    """Give a fresh decoder the weights of one with fewer words; return how many words are new.

    New words keep their fresh vectors, but their logits are at first the mean of the logits of all old words. By
    Jensen's inequality, V old words leave each new one at most 1/V of their probability, and a new word is never the
    likeliest (Hewitt, 2021): so it is not said before it is learnt, and what was said is still said.
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
            f"{run.folder}: its features do not say which encoder made them, so that new ones cannot be made"
        )
    decoder = best_decoder(run.final)
    encoder, model = run.encoder, None
    if run.fine_tuning:
        encoder, model = tuned_info(run.fine_tuning), (run.fine_tuning.folder / "encoder.onnx").read_bytes()
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
    config = dict(bundle.decoder)
    kind = config.pop("kind")
    try:
        decoder = DECODERS[kind](**config)
    except (KeyError, TypeError):
        raise BundleError(f"{path}: this showtell does not know its decoder {kind}; update showtell") from None
    decoder.build()
    arrays = {}
    for file in ("decoder_start.onnx", "decoder_step.onnx"):
        for tensor in onnx.load_from_string(bundle.files[file]).graph.initializer:
            arrays[tensor.name] = numpy_helper.to_array(tensor)
    names = decoder.named_weights()
    if missing := [name for name in names if name not in arrays and f"{name}_quantized" not in arrays]:
        raise BundleError(
            f"{path}: it does not name its decoder's weights ({missing[0]}), for an older showtell made it; "
            "start from the run that it was exported from, or export that anew"
        )
    weights = {name: _dequantized(name, arrays) for name in names}
    entry = EncoderConfig(bundle.encoder.name, grid=bundle.encoder.cells > 1)
    # What ships is better than a copy of it in 8 bits, and can be fine-tuned. Others of the table may need a download.
    ships = entry.encoder == EFFICIENTNET_LITE2.stem and load_encoder(entry).info == bundle.encoder
    model = None if ships else bundle.files["encoder.onnx"]
    return WarmStart(
        path, bundle.vocabulary, bundle.encoder, entry, model, kind, config, weights, bundle.search_options
    )


def _dequantized(name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return a weight in single precision; quantised, there is a scale for all of it, or for each column."""
    if name in arrays:
        return arrays[name].astype(np.float32)
    quantized = arrays[f"{name}_quantized"].astype(np.float32)
    # Those of a bias, which is quantised to 32 bits, are named otherwise.
    prefix = name if f"{name}_scale" in arrays else f"{name}_quantized"
    return (quantized - arrays[f"{prefix}_zero_point"]) * arrays[f"{prefix}_scale"]
