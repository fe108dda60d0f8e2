"""Training on several devices, simulated by XLA on one processor."""

import json
import os
import subprocess
import sys

import pytest

# Nearly all of the time is compilation.
FAST_COMPILATION = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
ON_JAX = {"KERAS_BACKEND": "jax", "XLA_FLAGS": f"--xla_force_host_platform_device_count=2 {FAST_COMPILATION}"}

# Trains a few steps of each phase with batches of odd size, and prints the losses and the sums of the weights.
PHASES = """
import json, sys
from pathlib import Path

import keras, numpy as np

from showtell.recipe import Recipe
from showtell.training.batches import TrainingSplit
from showtell.training.checkpoints import save_model
from showtell.training.cross_entropy import CrossEntropy
from showtell.training.loss import MaskedCrossEntropy
from showtell.training.devices import use_devices
from showtell.training.fine_tuning import EncoderDecoder, FineTuning
from showtell.training.phases import load_best_decoder, compile_model
from showtell.training.run import Run, DataPaths
from showtell.training.self_critical import SelfCritical
from showtell.training.trainer import make_deterministic
from showtell.vocabulary import Vocabulary

vocabulary = Vocabulary.from_words(list("abcdefgh"))
random = np.random.default_rng(0)
texts = [" ".join(random.choice(list("abcdefgh"), random.integers(3, 5))) for _ in range(10)]
images = np.arange(10) % 5
references = [[texts[image], texts[image + 5]] for image in range(5)]
features = random.normal(size=(5, 3, 4)).astype(np.float32)
split = TrainingSplit(vocabulary.encode(texts, 6), images, features, np.arange(5), references, list("vwxyz"))
recipe = Recipe().override({
    "embedding_size": 8, "units": 8, "batch_size": 7, "learning_rate": 0.05,
    "max_length": 6, "self_critical_images": 5, "samples_per_image": 3, "self_critical_learning_rate": 0.05,
})
for devices in (1, 2):
    results = {}
    use_devices(devices)
    make_deterministic(0)
    run = Run(Path(sys.argv[1], str(devices)), recipe, DataPaths("", ()), None, vocabulary)

    def train(name, phase, model, batches):
        losses = [phase.train_step(model, batch, 0)[0] for batch in batches]
        weights = [float(np.abs(weight).sum()) for weight in model.get_weights()[:-1]]
        results[name] = [*losses, *weights]
        return model

    phase = CrossEntropy(run, split)
    batches = [*phase.generate_batches(0, 0), *phase.generate_batches(1, 0)]
    model = train("cross-entropy", phase, phase.build_model(), batches)
    run.checkpoints.save(model, 4)
    model = train("resumed", phase, run.checkpoints.load_latest_checkpoint(), phase.generate_batches(2, 0))
    results["copies"] = len(model.trainable_variables[0].value.devices())
    save_model(model, run.best_path)

    phase = SelfCritical(run, run, split)
    batches = [*phase.generate_batches(0, 0), *phase.generate_batches(1, 0)]
    train("self-critical", phase, phase.build_model(), batches)

    encoder = keras.Sequential([keras.Input((3, 2, 2)), keras.layers.Reshape((3, 4)), keras.layers.Dense(4)])
    model = EncoderDecoder(encoder, load_best_decoder(run))
    compile_model(model, keras.optimizers.SGD(0.5), MaskedCrossEntropy())
    pixels = features.reshape(5, 3, 2, 2)
    inputs = {"images": pixels, "image_of": images[:9].astype(np.int32), "tokens": split.captions[:9, :-1]}
    train("fine-tuning", FineTuning.__new__(FineTuning), model, [(inputs, split.captions[:9, 1:])] * 3)
    print(json.dumps(results))
"""


def test_training_on_two_devices_equals_training_on_one(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PHASES, tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, **ON_JAX},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    one, two = map(json.loads, done.stdout.splitlines()[-2:])
    assert (one.pop("copies"), two.pop("copies")) == (1, 2)
    assert one.keys() == two.keys()
    for phase, values in one.items():
        assert len(set(values[:2])) == 2, "the loss does not change"
        assert two[phase] == pytest.approx(values, abs=1e-4), phase


def test_a_batch_is_padded_and_distributed_over_the_devices():
    program = """
import numpy as np
from keras.src.backend.jax.trainer import _distribute_data
from showtell.training.devices import pad_for_devices, use_devices

captions = np.ones((7, 5), np.int32)
print(len(pad_for_devices(captions)))
use_devices(2)
padded = pad_for_devices({"tokens": captions})["tokens"]
print(padded[7], len(pad_for_devices(padded)))
print(*(shard.data.shape for shard in _distribute_data(padded).addressable_shards))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **ON_JAX}, check=True
    )
    assert done.stdout.splitlines() == ["7", "[0 0 0 0 0] 8", "(4, 5) (4, 5)"]


@pytest.mark.parametrize(
    ("devices", "environment", "reason"),
    [
        (3, ON_JAX, "--devices 3: 2 available: cpu:0, cpu:1"),
        (2, {"KERAS_BACKEND": "tensorflow"}, "several devices need the JAX backend, but Keras uses tensorflow"),
    ],
)
def test_unavailable_devices_are_refused_on_one_line(devices, environment, reason, showtell, tmp_path):
    done = showtell(
        "train", "-o", tmp_path / "run", "--resume", "--devices", devices, status=2, environment=environment
    )
    assert reason in done.stderr and len(done.stderr.splitlines()) == 1
