"""Validation: the loss on held-out captions, scores of generated captions, and detection of collapsed training."""

from dataclasses import asdict, dataclass, replace

import numpy as np
from keras import ops

from showtell.inference.decoder_step import DecoderStep
from showtell.inference.search import search
from showtell.inference.search_options import SearchOptions
from showtell.metrics import Scores, score_captions
from showtell.training.batches import Batches, TrainingSplit
from showtell.training.decoders import Decoder
from showtell.training.loss import MaskedCrossEntropy
from showtell.vocabulary import PAD, Vocabulary

IMAGES_PER_BATCH = 256
# With fewer images, a small share of distinct captions or a small loss difference may be due to chance.
MIN_COLLAPSE_IMAGES = 32
# If a model uses its images, exchanging them increases its loss by at least this much, in nats per token.
MIN_IMAGE_GAIN = 0.02
MIN_DISTINCT = 0.02

COLLAPSE_ADVICE = (
    "Likely causes: features that do not belong to these images (another encoder, or rows in another order), a "
    "learning rate that is too high, or too few epochs so far."
)


@dataclass(frozen=True)
class Validation:
    """The result of a validation.

    Attributes:
        loss: mean cross-entropy in nats per token, without label smoothing.
        shuffled_loss: the loss with each image replaced by another one.
        scores: BLEU, ROUGE-L and CIDEr of the captions.
    """

    loss: float
    shuffled_loss: float
    scores: Scores

    @property
    def is_collapsed(self) -> bool:
        """Whether the captions hardly depend on the images."""
        if len(self.scores.per_image) < MIN_COLLAPSE_IMAGES:
            return False
        return self.scores.distinct < MIN_DISTINCT or self.shuffled_loss - self.loss < MIN_IMAGE_GAIN

    def to_record(self) -> dict[str, float]:
        """Return loss and scores by name, as in history.jsonl."""
        scores = {name: value for name, value in asdict(self.scores).items() if isinstance(value, float)}
        return {"val_loss": self.loss, "val_loss_shuffled": self.shuffled_loss, **scores}

    def describe_collapse(self) -> str:
        """Return a warning about a collapsed model, with advice."""
        return (
            f"the model ignores its images: {self.scores.distinct:.1%} of the captions are distinct, and exchanging "
            f"the images changes the loss from {self.loss:.3f} to {self.shuffled_loss:.3f}. {COLLAPSE_ADVICE}"
        )


def caption_images(
    step: DecoderStep, split: TrainingSplit, vocabulary: Vocabulary, options: SearchOptions
) -> list[str]:
    """Caption the images of a split, in their order."""
    captions = []
    for rows in np.array_split(split.image_rows, -(-len(split.images) // IMAGES_PER_BATCH)):
        features = split.features[rows].astype(np.float32)
        captions += [vocabulary.decode(best.tokens) for best, *_ in search(step, features, options)]
    return captions


def validate(
    decoder: Decoder,
    step: DecoderStep,
    split: TrainingSplit,
    vocabulary: Vocabulary,
    options: SearchOptions,
    batch_size: int,
) -> Validation:
    """Compute the loss on a split, and score generated captions of its images.

    Args:
        decoder: the model to validate.
        step: the same model as a `DecoderStep`.
        split: the captions and images.
        vocabulary: the vocabulary of the captions.
        options: search options of the generated captions.
        batch_size: captions per batch for the loss.
    """
    captions = caption_images(step, split, vocabulary, options)
    scores = score_captions(
        dict(zip(split.images, captions, strict=True)), dict(zip(split.images, split.references, strict=True))
    )
    other_row = dict(zip(split.image_rows.tolist(), np.roll(split.image_rows, 1).tolist(), strict=True))
    shuffled = replace(split, feature_rows=np.array([other_row[row] for row in split.feature_rows.tolist()]))
    return Validation(compute_loss(decoder, split, batch_size), compute_loss(decoder, shuffled, batch_size), scores)


def compute_loss(decoder: Decoder, split: TrainingSplit, batch_size: int) -> float:
    """Return the mean cross-entropy in nats per token over full batches of a split, without label smoothing."""
    total, tokens = 0.0, 0
    cross_entropy = MaskedCrossEntropy()
    for inputs, targets in Batches(split, min(batch_size, len(split.captions))):
        logits = decoder.predict_on_batch(inputs)
        count = int((targets != PAD).sum())
        total += float(ops.convert_to_numpy(cross_entropy(targets, logits))) * count
        tokens += count
    return total / tokens
