"""Training on several devices: two that XLA makes of one processor."""

import json
import os
import subprocess
import sys

import pytest

# Compiling is nearly all that takes time here.
QUICKLY = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
ON_JAX = {"KERAS_BACKEND": "jax", "XLA_FLAGS": f"--xla_force_host_platform_device_count=2 {QUICKLY}"}

# Each phase takes steps, whose batches no two devices can halve; it tells the losses, and then the sum of the weights.
PHASES = """
import json, sys
from pathlib import Path

import keras, numpy as np

from showtell.recipe import Recipe
from showtell.training.batches import TrainingSplit
from showtell.training.cross_entropy import CrossEntropy
from showtell.training.decoders import MaskedCrossEntropy
from showtell.training.devices import use_devices
from showtell.training.fine_tuning import EncoderDecoder, FineTuning
from showtell.training.phases import best_decoder, compile_model
from showtell.training.run import Run, DataPaths, save_model
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
    told = {}
    use_devices(devices)
    make_deterministic(0)
    run = Run(Path(sys.argv[1], str(devices)), recipe, DataPaths("", ()), None, vocabulary)

    def take(name, phase, model, batches):
        losses = [phase.train_on(model, batch, 0)[0] for batch in batches]
        weights = [float(np.abs(weight).sum()) for weight in model.get_weights()[:-1]]
        told[name] = [*losses, *weights]
        return model

    phase = CrossEntropy(run, split, print)
    model = take("cross-entropy", phase, phase.new_model(), [*phase.batches(0, 0), *phase.batches(1, 0)])
    run.save(model, 4)
    model = take("resumed", phase, run.load_latest_checkpoint(print), phase.batches(2, 0))
    told["copies"] = len(model.trainable_variables[0].value.devices())
    save_model(model, run.best)

    phase = SelfCritical(run, run, split)
    take("self-critical", phase, phase.new_model(), [*phase.batches(0, 0), *phase.batches(1, 0)])

    encoder = keras.Sequential([keras.Input((3, 2, 2)), keras.layers.Reshape((3, 4)), keras.layers.Dense(4)])
    model = EncoderDecoder(encoder, best_decoder(run))
    compile_model(model, keras.optimizers.SGD(0.5), MaskedCrossEntropy())
    pictures = features.reshape(5, 3, 2, 2)
    inputs = {"images": pictures, "image_of": images[:9].astype(np.int32), "tokens": split.captions[:9, :-1]}
    take("fine-tuning", FineTuning.__new__(FineTuning), model, [(inputs, split.captions[:9, 1:])] * 3)
    print(json.dumps(told))
"""


def test_two_devices_learn_what_one_learns_in_every_phase(tmp_path):
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
    for phase, figures in one.items():
        assert len(set(figures[:2])) == 2, "nothing was learnt"
        assert two[phase] == pytest.approx(figures, abs=1e-4), phase


def test_a_batch_is_filled_up_and_a_part_of_it_lies_on_each_device():
    program = """
import numpy as np
from keras.src.backend.jax.trainer import _distribute_data
from showtell.training.devices import pad_for_devices, use_devices

captions = np.ones((7, 5), np.int32)
print(len(pad_for_devices(captions)))
use_devices(2)
filled = pad_for_devices({"tokens": captions})["tokens"]
print(filled[7], len(pad_for_devices(filled)))
print(*(shard.data.shape for shard in _distribute_data(filled).addressable_shards))
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
def test_devices_that_are_not_there_are_refused_in_a_line(devices, environment, reason, showtell, tmp_path):
    refused = showtell(
        "train", "-o", tmp_path / "run", "--resume", "--devices", devices, status=2, environment=environment
    )
    assert reason in refused.stderr and len(refused.stderr.splitlines()) == 1
