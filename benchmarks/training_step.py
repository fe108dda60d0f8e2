"""Steps of training against plain PyTorch, and against the time of their products of matrices alone.

Captions have the lengths of those in the file, in a vocabulary of 5,000 words. Ours are bucketed by length, as in
training; PyTorch's are padded to 25. Both take turns, each in a process of its own.

python benchmarks/training_step.py captions_val2017.json
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from _measure import tell

from showtell.data import caption_files
from showtell.metrics import tokenize
from showtell.recipe import Recipe
from showtell.training.batches import Batches, TrainingSplit
from showtell.training.decoders import MaskedCrossEntropy, build_decoder
from showtell.training.phases import compile_model, make_optimizer
from showtell.training.trainer import make_deterministic
from showtell.vocabulary import END, START

BATCH_SIZE = 64
RECIPES = Path(__file__).parent.parent / "recipes"
LENGTH = 25
WORDS = 5004
STEPS = 40
ROUNDS = 3
PRODUCTS = 5
# Recipe, and the cells and channels of the features that it reads: Inception V3's pool_3, EfficientNet-Lite2's grid.
KINDS = {"coco2014-show-and-tell": (1, 2048), "flickr8k": (49, 352)}


def main() -> None:
    """Measure and print."""
    lengths = [
        min(len(tokenize(text)) + 2, LENGTH)
        for example in caption_files.read_caption_file(Path(sys.argv[1]))
        for text in example.captions
    ]
    for name, shape in KINDS.items():
        recipe = Recipe.load(RECIPES / f"{name}.toml")
        kind = recipe.model.decoder
        split = _split(np.array(lengths), *shape)
        with tempfile.TemporaryDirectory() as folder:
            batches = Path(folder, "batches.npz")
            count = len(split.captions) // BATCH_SIZE
            tokens = split.captions[: count * BATCH_SIZE].reshape(count, BATCH_SIZE, LENGTH)
            np.savez(batches, features=split.features[np.arange(BATCH_SIZE)], captions=tokens, words=WORDS)
            ours = {precision: _Ours(recipe, split, precision) for precision in ("float32", "mixed_bfloat16")}
            rates: dict[str, list[float]] = {"torch": [], **{precision: [] for precision in ours}}
            for _ in range(ROUNDS):
                rates["torch"].append(_torch_rate(kind, recipe.training.optimizer, batches))
                for precision, trained in ours.items():
                    rates[precision].append(trained.rate())
        median = {who: statistics.median(found) for who, found in rates.items()}
        theirs = f"{median['torch']:.0f} captions/s"
        for precision in ours:
            ratio = f"{median[precision] / median['torch']:.1f} x"
            title = f"a step of {kind}, {precision}, against PyTorch"
            tell(title, f"{median[precision]:.0f} captions/s", theirs, ratio, "2 x, aim 4 x")
        if kind == "show_and_tell":
            for precision, trained in ours.items():
                limit, rate = trained.limit(), trained.rate()
                title = f"a step of {kind}, {precision}, against its products of matrices"
                share = f"{rate / limit:.0%}"
                tell(title, f"{rate:.0f} captions/s", f"{limit:.0f} captions/s", share, "50 %, aim 70 %")


def _split(lengths: np.ndarray, cells: int, channels: int) -> TrainingSplit:
    """Return random captions of these lengths, in a random order, all of a few random images."""
    generator = np.random.default_rng(0)
    lengths = generator.permutation(lengths)[: STEPS * BATCH_SIZE]
    captions = generator.integers(END + 2, WORDS, (len(lengths), LENGTH), dtype=np.int32)
    captions[:, 0] = START
    captions[np.arange(len(lengths)), lengths - 1] = END
    captions[np.arange(LENGTH) >= lengths[:, None]] = 0
    features = generator.normal(size=(BATCH_SIZE, cells, channels)).astype(np.float16)
    rows = np.arange(len(captions)) % BATCH_SIZE
    return TrainingSplit(captions, rows, features, np.arange(BATCH_SIZE), [[""]] * BATCH_SIZE, [""] * BATCH_SIZE)


class _Ours:
    """Our training of a decoder, as `showtell train` does it."""

    def __init__(self, recipe: Recipe, split: TrainingSplit, precision: str):
        make_deterministic(0)
        keras.config.set_dtype_policy(precision)
        self.precision = precision
        self._model = build_decoder(recipe.model, WORDS, split.features.shape[2])
        loss = MaskedCrossEntropy(recipe.training.label_smoothing)
        compile_model(self._model, make_optimizer(recipe.training, 1000), loss)
        self._split = split
        self.rate()

    def rate(self) -> float:
        """Return captions a second of an epoch."""
        began = time.perf_counter()
        for inputs, targets in Batches(self._split, BATCH_SIZE, epoch=0):
            self._model.train_on_batch(inputs, targets)
        return len(self._split.captions) / (time.perf_counter() - began)

    def limit(self) -> float:
        """Return captions a second of an epoch's products of matrices alone, one after the other."""
        shapes = [inputs["tokens"].shape for inputs, _ in Batches(self._split, BATCH_SIZE, epoch=0)]
        kind = "bfloat16" if self.precision == "mixed_bfloat16" else "float32"
        channels = self._split.features.shape[2]
        seconds = {width: _products(BATCH_SIZE, width, channels, kind) for width in {width for _, width in shapes}}
        return len(self._split.captions) / sum(seconds[width] for _, width in shapes)


def _products(captions: int, words: int, channels: int, kind: str) -> float:
    """Return the seconds of the products in a step on tokens (captions, words), forward and backward."""
    everywhere = captions * (words + 1)
    seconds = 0.0
    for times, rows, inner, columns in (
        (1, captions, channels, 512),  # the image's embedding
        (1, everywhere, 512, 2048),  # the LSTM's input, all words at once
        (words + 1, captions, 512, 2048),  # its own output, word by word
        (1, captions * words, 512, WORDS),  # the logits
    ):
        seconds += times * _product(rows, inner, columns, kind)
        seconds += times * _product(rows, columns, inner, kind)
        seconds += _product(inner, times * rows, columns, kind)  # the weights' gradient is one sum over all words
    return seconds


def _product(rows: int, inner: int, columns: int, kind: str) -> float:
    left, right = (keras.random.normal(shape, dtype=kind) for shape in ((rows, inner), (inner, columns)))
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(PRODUCTS):
            product = keras.ops.matmul(left, right)
        float(keras.ops.cast(product[0, 0], "float32"))  # a GPU is waited for
        taken.append((time.perf_counter() - began) / PRODUCTS)
    return min(taken)


def _torch_rate(kind: str, optimizer: str, batches: Path) -> float:
    """Return captions a second in PyTorch."""
    program = str(Path(__file__).with_name("_torch_captioners.py"))
    command = [sys.executable, program, kind, optimizer, str(batches), str(STEPS // 2)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return BATCH_SIZE / statistics.mean(map(float, done.stdout.split()))


if __name__ == "__main__":
    main()
