"""Compare training steps with plain PyTorch, and with the time of their matrix products alone.

    python benchmarks/training_step.py captions_val2017.json

Captions have the lengths of those in the file and a vocabulary of 5,000 words. Ours are batched by length, as in
training; PyTorch's are padded to 25 tokens. Both run in turn, PyTorch in a process of its own.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from _measure import make_parser, print_result

from showtell.data import read_caption_file
from showtell.metrics import tokenize
from showtell.recipe import Recipe
from showtell.training.batches import Batches, TrainingSplit
from showtell.training.decoders import build_decoder
from showtell.training.loss import MaskedCrossEntropy
from showtell.training.phases import compile_model, make_optimizer
from showtell.training.trainer import make_deterministic
from showtell.vocabulary import END, START

BATCH_SIZE = 64
RECIPES = Path(__file__).parent.parent / "recipes"
MAX_LENGTH = 25
VOCABULARY_SIZE = 5004
STEPS = 40
ROUNDS = 3
PRODUCTS = 5
# Recipe -> cells and channels of its features: Inception V3's pool_3, EfficientNet-Lite2's grid.
FEATURE_SHAPES = {"coco2014-show-and-tell": (1, 2048), "flickr8k": (49, 352)}
PRECISIONS = ("float32", "mixed_bfloat16")


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("captions", type=Path, help="caption file of COCO")
    measure(parser.parse_args().captions)


def measure(captions: Path) -> None:
    """Measure the steps of both decoders and print the results."""
    lengths = [
        min(len(tokenize(text)) + 2, MAX_LENGTH) for example in read_caption_file(captions) for text in example.captions
    ]
    for name, shape in FEATURE_SHAPES.items():
        recipe = Recipe.load(RECIPES / f"{name}.toml")
        decoder = recipe.model.decoder
        split = _make_split(np.array(lengths), *shape)
        with tempfile.TemporaryDirectory() as folder:
            batches = Path(folder, "batches.npz")
            count = len(split.captions) // BATCH_SIZE
            tokens = split.captions[: count * BATCH_SIZE].reshape(count, BATCH_SIZE, MAX_LENGTH)
            features = split.features[np.arange(BATCH_SIZE)]
            np.savez(batches, features=features, captions=tokens, vocabulary_size=VOCABULARY_SIZE)
            trainings = {precision: _KerasTraining(recipe, split, precision) for precision in PRECISIONS}
            rates: dict[str, list[float]] = {"torch": [], **{precision: [] for precision in PRECISIONS}}
            for _ in range(ROUNDS):
                rates["torch"].append(_torch_rate(decoder, recipe.training.optimizer, batches))
                for precision, training in trainings.items():
                    rates[precision].append(training.rate())
        medians = {who: statistics.median(values) for who, values in rates.items()}
        for precision in PRECISIONS:
            title = f"training step of `{decoder}`, {precision}, compared with PyTorch"
            ours, peer = medians[precision], medians["torch"]
            print_result(title, f"{ours:.0f} captions/s", f"{peer:.0f} captions/s", f"{ours / peer:.1f} x")
        if decoder == "show_and_tell":
            for precision, training in trainings.items():
                title = f"training step of `{decoder}`, {precision}, compared with its matrix products alone"
                limit, rate = training.limit(), training.rate()
                print_result(title, f"{rate:.0f} captions/s", f"{limit:.0f} captions/s", f"{rate / limit:.0%}")


def _make_split(lengths: np.ndarray, cells: int, channels: int) -> TrainingSplit:
    """Return random captions of these lengths, in random order, for BATCH_SIZE random images."""
    generator = np.random.default_rng(0)
    lengths = generator.permutation(lengths)[: STEPS * BATCH_SIZE]
    captions = generator.integers(END + 2, VOCABULARY_SIZE, (len(lengths), MAX_LENGTH), dtype=np.int32)
    captions[:, 0] = START
    captions[np.arange(len(lengths)), lengths - 1] = END
    captions[np.arange(MAX_LENGTH) >= lengths[:, None]] = 0
    features = generator.normal(size=(BATCH_SIZE, cells, channels)).astype(np.float16)
    rows = np.arange(len(captions)) % BATCH_SIZE
    return TrainingSplit(captions, rows, features, np.arange(BATCH_SIZE), [[""]] * BATCH_SIZE, [""] * BATCH_SIZE)


class _KerasTraining:
    """Training of a decoder, as `showtell train` does it."""

    def __init__(self, recipe: Recipe, split: TrainingSplit, precision: str):
        make_deterministic(0)
        keras.config.set_dtype_policy(precision)
        self.precision = precision
        self._model = build_decoder(recipe.model, VOCABULARY_SIZE, split.features.shape[2])
        loss = MaskedCrossEntropy(recipe.training.label_smoothing)
        compile_model(self._model, make_optimizer(recipe.training, 1000), loss)
        self._split = split
        self.rate()

    def rate(self) -> float:
        """Return captions per second of an epoch."""
        began = time.perf_counter()
        for inputs, targets in Batches(self._split, BATCH_SIZE, epoch=0):
            self._model.train_on_batch(inputs, targets)
        return len(self._split.captions) / (time.perf_counter() - began)

    def limit(self) -> float:
        """Return captions per second of the matrix products of an epoch alone."""
        shapes = [inputs["tokens"].shape for inputs, _ in Batches(self._split, BATCH_SIZE, epoch=0)]
        dtype = "bfloat16" if self.precision == "mixed_bfloat16" else "float32"
        channels = self._split.features.shape[2]
        lengths = [length for _, length in shapes]
        seconds = {length: _time_products(BATCH_SIZE, length, channels, dtype) for length in set(lengths)}
        return len(self._split.captions) / sum(seconds[length] for length in lengths)


def _time_products(captions: int, length: int, channels: int, dtype: str) -> float:
    """Return the seconds of the matrix products of a step on tokens (captions, length), forward and backward."""
    positions = captions * (length + 1)
    seconds = 0.0
    for times, rows, inner, columns in (
        (1, captions, channels, 512),  # image embedding
        (1, positions, 512, 2048),  # LSTM input, all tokens at once
        (length + 1, captions, 512, 2048),  # recurrent LSTM input, token by token
        (1, captions * length, 512, VOCABULARY_SIZE),  # logits
    ):
        seconds += times * _time_product(rows, inner, columns, dtype)
        seconds += times * _time_product(rows, columns, inner, dtype)
        seconds += _time_product(
            inner, times * rows, columns, dtype
        )  # the gradient of the weights sums over all tokens
    return seconds


def _time_product(rows: int, inner: int, columns: int, dtype: str) -> float:
    left, right = (keras.random.normal(shape, dtype=dtype) for shape in ((rows, inner), (inner, columns)))
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(PRODUCTS):
            product = keras.ops.matmul(left, right)
        float(keras.ops.cast(product[0, 0], "float32"))  # waits for the GPU
        seconds.append((time.perf_counter() - began) / PRODUCTS)
    return min(seconds)


def _torch_rate(decoder: str, optimizer: str, batches: Path) -> float:
    """Return captions per second in PyTorch."""
    program = str(Path(__file__).with_name("_torch_captioners.py"))
    command = [sys.executable, program, decoder, optimizer, str(batches), str(STEPS // 2)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return BATCH_SIZE / statistics.mean(map(float, done.stdout.split()))


if __name__ == "__main__":
    main()
