"""What a training run shows while it runs: progress, sample captions, validation, warnings."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from showtell.drawing.fonts import Fonts
from showtell.drawing.sheets import contact_sheet
from showtell.errors import ImageError
from showtell.images import decode
from showtell.inference.search import DecoderStep, SearchOptions, search
from showtell.metrics.scores import Scores, score_captions
from showtell.training.batches import Batches, TrainingSplit
from showtell.training.decoders import Decoder, MaskedCrossEntropy
from showtell.training.tensorboard import TensorBoardWriter
from showtell.utils.files import atomic_write
from showtell.vocabulary import PAD, Vocabulary

SAMPLES = 32
# A model that looks at its image loses more than this, in nats a word, when images are exchanged.
LEAST_IMAGE_GAIN = 0.02
LEAST_DISTINCT = 0.02

COLLAPSE_ADVICE = (
    "The model ignores its images. Likely causes: features that do not belong to these images (another encoder, or "
    "rows in another order), a learning rate that is too high, or too few epochs so far."
)


@dataclass(frozen=True)
class Validation:
    """What one validation found.

    Attributes:
        loss: mean cross-entropy in nats a token, without label smoothing.
        shuffled_loss: the same with every image exchanged for another.
        scores: BLEU, ROUGE-L and CIDEr of the captions.
    """

    loss: float
    shuffled_loss: float
    scores: Scores

    @property
    def collapsed(self) -> bool:
        """Whether the captions have little or nothing to do with the images."""
        if len(self.scores.per_image) < SAMPLES:
            return False  # too few to tell
        return self.scores.distinct < LEAST_DISTINCT or self.shuffled_loss - self.loss < LEAST_IMAGE_GAIN

    def record(self) -> dict[str, float]:
        """Return the figures by name."""
        figures = asdict(self.scores)
        return {
            "val_loss": self.loss,
            "val_loss_shuffled": self.shuffled_loss,
            **{name: value for name, value in figures.items() if isinstance(value, float)},
        }


def caption_images(
    step: DecoderStep, split: TrainingSplit, vocabulary: Vocabulary, options: SearchOptions
) -> list[str]:
    """Caption the images of a split, in their order."""
    captions = []
    for rows in np.array_split(split.image_rows, -(-len(split.images) // 256)):
        features = split.features[rows].astype(np.float32)
        captions += [vocabulary.decode(found[0].tokens) for found in search(step, features, options)]
    return captions


def validate(
    decoder: Decoder,
    step: DecoderStep,
    split: TrainingSplit,
    vocabulary: Vocabulary,
    options: SearchOptions,
    batch_size: int,
) -> Validation:
    """Measure the loss on a split, and score captions of its images."""
    captions = caption_images(step, split, vocabulary, options)
    scores = score_captions(
        dict(zip(split.images, captions, strict=True)), dict(zip(split.images, split.references, strict=True))
    )
    other = dict(zip(split.image_rows.tolist(), np.roll(split.image_rows, 1).tolist(), strict=True))
    shuffled = replace(split, feature_rows=np.array([other[row] for row in split.feature_rows.tolist()]))
    return Validation(mean_loss(decoder, split, batch_size), mean_loss(decoder, shuffled, batch_size), scores)


def mean_loss(decoder: Decoder, split: TrainingSplit, batch_size: int) -> float:
    """Return the mean cross-entropy in nats a token over full batches of the split, without label smoothing."""
    loss, tokens = 0.0, 0
    measure = MaskedCrossEntropy()
    for inputs, targets in Batches(split, min(batch_size, len(split.captions))):
        logits = decoder.predict_on_batch(inputs)
        count = int((targets != PAD).sum())
        loss += float(ops.convert_to_numpy(measure(targets, logits))) * count
        tokens += count
    return loss / tokens


def write_samples(
    folder: Path,
    step: int,
    names: Sequence[str],
    captions: Sequence[str],
    images: Path | None,
    fonts: Fonts,
    board: TensorBoardWriter,
) -> None:
    """Keep sample captions as text and, if the images are at hand, as one contact sheet."""
    lines = [f"{name}\t{caption}" for name, caption in zip(names, captions, strict=True)]
    with atomic_write(folder / f"step-{step:09d}.txt") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    board.add_text("samples", "\n\n".join(lines), step)
    if images is None:
        return
    pictures, texts = [], []
    for name, caption in zip(names, captions, strict=True):
        try:
            pictures.append(decode(images / name, at_least=320))
            texts.append(caption)
        except ImageError:  # it had features once; a sample is not worth stopping a training for
            continue
    if pictures:
        sheet = contact_sheet(pictures, texts, fonts)
        with atomic_write(folder / f"step-{step:09d}.jpg") as temporary:
            sheet.save(temporary, quality=85)
        board.add_image("samples", np.asarray(sheet), step)


def epoch_line(record: dict[str, Any]) -> str:
    """Return an epoch's record as one line for people."""
    parts = [f"epoch {record['epoch']}"]
    if record["loss"] is not None:
        parts += [f"loss {record['loss']:.3f}"]
    if "val_loss" in record:
        bleus = " ".join(f"{record[f'bleu_{order}']:.1f}" for order in range(1, 5))
        parts += [
            f"validation loss {record['val_loss']:.3f}",
            f"BLEU-1..4 {bleus}",
            f"CIDEr {record['cider']:.1f}",
            f"distinct {record['distinct']:.0%}",
            f"repeated bigrams {record['repeated_bigrams']:.1%}",
        ]
    parts += [f"{record['seconds']:.0f} s" + (" since it was resumed" if record["resumed"] else "")]
    if "val_loss" in record:
        parts += ["the best so far" if record["best"] else "not the best"]
    return ", ".join(parts)
