"""The fine-tuned encoder of a run: loading, quantisation, and features for the next phase."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from showtell.data import extract_features
from showtell.encoder import EncoderInfo
from showtell.errors import ConfigurationError, ImageError
from showtell.inference.onnx_models import OnnxEncoder, open_session
from showtell.training.batches import TrainingSplit
from showtell.training.quantize import load_calibration_images, quantize_encoder
from showtell.training.run import Run
from showtell.utils.files import atomic_write, sha256

FILE_NAME = "encoder.onnx"

logger = logging.getLogger(__name__)


def fine_tuned_encoder_path(run: Run) -> Path:
    """Return the path of the encoder that fine-tuning writes.

    Args:
        run: the run, with the folder of its fine-tuning phase.
    """
    return run.folder / FILE_NAME


def fine_tuned_encoder_info(run: Run) -> EncoderInfo:
    """Return the identity of the fine-tuned encoder. The float and the int8 version share one fingerprint.

    Args:
        run: the run, with the folder of its fine-tuning phase.

    Raises:
        ConfigurationError: if the phase is not complete.
    """
    if run.encoder is None or len(run.read_history()) <= run.recipe.fine_tuning.fine_tuning_epochs:
        raise ConfigurationError(f"{run.folder}: the fine-tuning is not complete; resume it with --resume")
    return replace(run.encoder, fingerprint=sha256(fine_tuned_encoder_path(run))[:12])


def fine_tuned_int8_encoder_path(run: Run) -> Path:
    """Return the path of the int8 encoder. Raises ConfigurationError if the phase is not complete."""
    return run.folder / f"encoder-int8-{fine_tuned_encoder_info(run).fingerprint}.onnx"


def load_fine_tuned_encoder(run: Run, training: TrainingSplit, int8: bool) -> OnnxEncoder:
    """Load the fine-tuned encoder.

    Args:
        run: the run, with the folder of its fine-tuning phase.
        training: images to calibrate the int8 version with.
        int8: load the int8 version. The first call creates and stores it.

    Raises:
        ConfigurationError: if the phase is not complete.
    """
    info, path = fine_tuned_encoder_info(run), fine_tuned_encoder_path(run)
    if int8:
        source, path = path, fine_tuned_int8_encoder_path(run)
        if not path.exists():
            pixels = load_calibration_images(info.preprocess, Path(run.data_paths.images[0]), training.images)
            with atomic_write(path) as temporary:
                temporary.write_bytes(quantize_encoder(source.read_bytes(), pixels))
    return OnnxEncoder(open_session(path), info)


def extract_fine_tuned_features(
    run: Run,
    training: TrainingSplit,
    validation: TrainingSplit | None,
    progress: Callable[[int, int], None],
) -> tuple[TrainingSplit, TrainingSplit | None]:
    """Return both splits with features of the fine-tuned encoder in 8 bits.

    The decoder is then trained with the same int8 encoder that is exported, so quantising the encoder does not lower
    the scores. The features are stored in the folder of the phase; an interrupted extraction is resumed.

    Args:
        run: the run, with the folder of its complete fine-tuning phase.
        training: the training captions and images.
        validation: the validation captions and images, if any.
        progress: called with the number of images done and the total. An exception that it raises stops the extraction.

    Raises:
        ConfigurationError: if the phase is not complete.
        ImageError: if an image is no longer readable.
    """
    encoder = load_fine_tuned_encoder(run, training, int8=True)

    def extract(split: TrainingSplit, folder: Path, path: Path) -> TrainingSplit:
        if not path.exists():
            logger.info("extracting features of %d images with the fine-tuned int8 encoder", len(split.images))
        images = [(image, folder / image) for image in split.images]
        features = extract_features(images, encoder, path, progress=progress)
        if features.failed:
            raise ImageError(features.failed[0][1])
        return split.with_features(features.array)

    folders = [Path(folder) for folder in run.data_paths.images]
    training = extract(training, folders[0], run.folder / "train.npy")
    return training, validation and extract(validation, folders[-1], run.folder / "val.npy")
