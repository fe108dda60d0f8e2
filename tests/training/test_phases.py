"""The steps of the training phases."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from showtell.encoder import EncoderInfo
from showtell.errors import ConfigurationError
from showtell.images import Preprocess
from showtell.inference.search import Hypothesis
from showtell.recipe import FineTuningConfig, ModelConfig, Recipe, SelfCriticalConfig, TrainingConfig
from showtell.training.batches import TrainingSplit
from showtell.training.checkpoints import save_model
from showtell.training.cross_entropy import scheduled_sampling
from showtell.training.decoders import ShowAttendTell, build_decoder
from showtell.training.fine_tuning import AdamTwoLearningRates, EncoderDecoder, FineTuning, augment
from showtell.training.loss import MaskedCrossEntropy
from showtell.training.phases import is_improvement, make_optimizer
from showtell.training.run import DataPaths, Run
from showtell.training.self_critical import (
    SelfCritical,
    leave_one_out_mean,
    pad_samples,
    passes_reward_hacking_check,
)
from showtell.vocabulary import END, PAD, START, Vocabulary


def confident_logits(tokens, size=9):
    """Return logits (N, T, V) with all probability on tokens (N, T)."""
    return 100.0 * np.eye(size, dtype=np.float32)[np.asarray(tokens)]


def test_scheduled_sampling_replaces_tokens_with_samples_from_the_model():
    tokens = np.array([[START, 4, 5, END, PAD], [START, 6, 7, 8, END]])
    logits = confident_logits([[8, 7, 6, 5, 4], [4, 5, 6, 7, 8]])
    all_replaced = scheduled_sampling(logits, tokens, 1.0, np.random.default_rng(0))
    assert all_replaced.tolist() == [[START, 8, 7, END, PAD], [START, 4, 5, 6, END]]
    assert scheduled_sampling(logits, tokens, 0.0, np.random.default_rng(0)).tolist() == tokens.tolist()


def test_scheduled_sampling_replaces_the_requested_share_and_samples_by_probability():
    tokens = np.full((400, 11), 4)
    tokens[:, 0] = START
    logits = np.log(np.broadcast_to([1e-9] * 5 + [0.25, 0.75], (400, 11, 7)))
    mixed = scheduled_sampling(logits, tokens, 0.3, np.random.default_rng(0))
    assert np.mean(mixed[:, 1:] != 4) == pytest.approx(0.3, abs=0.03)
    sampled = mixed[mixed > 4]
    assert np.mean(sampled == 6) == pytest.approx(0.75, abs=0.05)


def test_the_baseline_is_the_mean_reward_of_the_other_samples():
    rewards = np.array([[1.0, 2.0, 6.0], [0.5, 0.5, 0.5]])
    assert leave_one_out_mean(rewards).tolist() == [[4.0, 3.5, 1.5], [0.5, 0.5, 0.5]]


def test_sampled_captions_are_padded_as_inputs_and_targets():
    finished = Hypothesis((4, 5), -3.0, (-1.0, -1.0, -1.0), -3.0, finished=True)
    truncated = Hypothesis((6, 7, 8), -3.0, (-1.0, -1.0, -1.0), -3.0, finished=False)
    empty = Hypothesis((), -1.0, (-1.0,), -1.0, finished=True)
    tokens, targets, mask = pad_samples([finished, truncated, empty])
    assert tokens.tolist() == [[START, 4, 5], [START, 6, 7], [START, END, PAD]]
    assert targets.tolist() == [[4, 5, END], [6, 7, 8], [END, PAD, PAD]]
    assert mask.tolist() == [[True] * 3, [True] * 3, [True, False, False]]


def test_higher_cider_with_lower_bleu_or_more_repetition_fails_the_check():
    start = {"bleu_4": 20.0, "repeated_bigrams": 0.02}
    assert passes_reward_hacking_check({"bleu_4": 19.6, "repeated_bigrams": 0.02}, start)
    assert not passes_reward_hacking_check({"bleu_4": 19.4, "repeated_bigrams": 0.0}, start)
    assert not passes_reward_hacking_check({"bleu_4": 22.0, "repeated_bigrams": 0.03}, start)
    assert passes_reward_hacking_check(
        {"bleu_4": 20.0, "repeated_bigrams": 0.005}, {"bleu_4": 20.0, "repeated_bigrams": 0.0}
    )


def self_critical_phase(folder, references):
    """Return the phase for a tiny untrained decoder with a vocabulary of four words, and for two images."""
    model = ModelConfig(embedding_size=16, units=16)
    settings = SelfCriticalConfig(1, self_critical_learning_rate=0.01, self_critical_images=2, samples_per_image=16)
    recipe = Recipe(model=model, self_critical=settings).override({"max_length": 6})
    run = Run(folder, recipe, DataPaths("", ()), None, Vocabulary.from_words(["red", "dog", "blue", "cat"]))
    keras.utils.set_random_seed(0)
    save_model(build_decoder(model, len(run.vocabulary), 2), run.best_path)
    features = np.eye(2, dtype=np.float32)[:, None]
    rows = np.arange(2)
    split = TrainingSplit(np.zeros((2, 6), np.int32), rows, features, rows, references, ["0", "1"])
    return SelfCritical(run.in_phase("self-critical"), run, split)


def test_captions_above_the_baseline_become_more_likely_and_others_less_likely(tmp_path):
    phase = self_critical_phase(tmp_path, [["red dog"] * 3, ["blue cat"] * 3])
    model = phase.build_model()
    red_dog, blue_cat = [4, 5, END], [6, 7, END]

    def log_probs(caption):
        inputs = {"features": phase._training.features, "tokens": np.array([[START, *caption[:-1]]] * 2)}
        logits = keras.ops.convert_to_numpy(keras.ops.log_softmax(model(inputs)))
        return np.take_along_axis(logits, np.array([caption] * 2)[..., None], axis=2).sum(axis=(1, 2))

    before = log_probs(red_dog), log_probs(blue_cat)
    losses = [phase.train_step(model, np.arange(2), 0)[0] for _ in range(80)]
    change = log_probs(red_dog) - before[0], log_probs(blue_cat) - before[1]
    assert change[0][0] > 1 > -1 > change[0][1] and change[1][1] > 1 > -1 > change[1][0]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_samples_with_equal_rewards_do_not_change_the_weights(tmp_path):
    phase = self_critical_phase(tmp_path, [["purple"] * 3, ["yellow"] * 3])  # words outside the vocabulary
    model = phase.build_model()
    before = model.get_weights()
    assert phase.train_step(model, np.arange(2), 0) == (0, 32)
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


def test_bleu_losses_do_not_accumulate_over_epochs(tmp_path):
    phase = self_critical_phase(tmp_path, [["red"], ["blue"]])
    first, second, third = (
        {"epoch": epoch, "best": True, "cider": cider, "bleu_4": bleu_4, "repeated_bigrams": 0, "val_loss": 2}
        for epoch, cider, bleu_4 in ((0, 50, 20), (1, 51, 19.6), (2, 52, 19.3))
    )
    phase.run.write_history([first])
    assert phase.is_better(second, first)
    phase.run.write_history([first, second])
    assert not phase.is_better(third, second) and phase.is_better({**third, "bleu_4": 19.5}, second)


def test_augmented_images_are_crops_that_depend_on_the_seed_only():
    column = np.arange(64, dtype=np.uint8)
    image = np.broadcast_to(column[None, :, None], (64, 64, 3)).copy()
    crops = [augment(image, mirror, np.random.default_rng(seed)) for mirror in (False, True) for seed in range(20)]
    again = [augment(image, mirror, np.random.default_rng(seed)) for mirror in (False, True) for seed in range(20)]
    assert all(np.array_equal(one, other) for one, other in zip(crops, again, strict=True))
    assert {crop.shape for crop in crops} == {(64, 64, 3)}
    rising = [int(crop[32, 60, 0]) > int(crop[32, 3, 0]) for crop in crops]
    assert all(rising[:20]) and 4 < sum(rising[20:]) < 16
    widths = [abs(int(crop[32, 63, 0]) - int(crop[32, 0, 0])) for crop in crops]
    assert min(widths) >= 0.75 * 63 and len(set(widths)) > 3


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    images = keras.Input((4, 4, 3), dtype="uint8")
    first = keras.layers.Dense(6, activation="relu", name="first")(keras.layers.Rescaling(1 / 255)(images))
    cells = keras.layers.Reshape((16, 5))(keras.layers.Dense(5, name="second")(first))
    encoder = keras.Model(images, cells)
    decoder = ShowAttendTell(9, 5, 8, 8, dropout=0.5)
    decoder.build()
    joint = EncoderDecoder(encoder, decoder)
    joint.build()
    return joint


def make_batch():
    random = np.random.default_rng(0)
    tokens = np.array([[START, 4, 5], [START, 6, 7], [START, 8, 4]])
    inputs = {
        "images": random.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8),
        "image_of": np.array([0, 0, 1]),
        "tokens": tokens,
    }
    return inputs, np.array([[4, 5, END], [6, 7, END], [8, 4, END]])


def test_captions_are_decoded_with_the_features_of_their_image(model):
    inputs, _ = make_batch()
    joint = keras.ops.convert_to_numpy(model(inputs))
    features = model.encoder.predict_on_batch(inputs["images"])[[0, 0, 1]]
    separate = keras.ops.convert_to_numpy(model.decoder({"features": features, "tokens": inputs["tokens"]}))
    assert joint == pytest.approx(separate, abs=1e-5)


def test_the_encoder_has_its_own_learning_rate_and_frozen_layers_do_not_change(model):
    model.encoder.get_layer("first").trainable = False
    trainable = len(model.encoder.trainable_variables)
    optimizer = AdamTwoLearningRates(0.1, trainable, learning_rate=0.01)
    model.compile(optimizer, MaskedCrossEntropy(), jit_compile=False)
    before = [weight.numpy() for weight in model.weights]
    model.train_on_batch(*make_batch())
    moved = {weight.path: np.abs(weight.numpy() - old).max() for weight, old in zip(model.weights, before, strict=True)}
    # The first step of Adam has the size of the learning rate.
    assert moved["first/kernel"] == moved["first/bias"] == 0
    assert moved["second/kernel"] == pytest.approx(0.001, rel=0.01)
    assert moved[model.decoder.logits.kernel.path] == pytest.approx(0.01, rel=0.01)


def test_encoder_and_decoder_are_saved_and_loaded_with_their_optimizer(model, tmp_path):
    model.compile(AdamTwoLearningRates(0.1, 4, learning_rate=0.01), MaskedCrossEntropy(0.1), jit_compile=False)
    model.train_on_batch(*make_batch())
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert (loaded.optimizer.factor, loaded.optimizer.first) == (0.1, 4)
    for either in (model, loaded):
        either.train_on_batch(*make_batch())
    for original, restored in zip(model.get_weights(), loaded.get_weights(), strict=True):
        assert np.array_equal(original, restored)


@pytest.mark.parametrize("name", ["x", "Optimizer", "x\x1b[2J"])
def test_an_unknown_optimizer_is_an_error(name):
    with pytest.raises(ConfigurationError, match="Keras has no optimizer with this name; try adam or sgd"):
        make_optimizer(TrainingConfig(optimizer=name), 10)


def test_existing_checkpoints_name_the_optimizer_two_rates():
    assert keras.saving.get_registered_name(AdamTwoLearningRates) == "showtell>TwoRates"


@pytest.fixture
def fine_tuning(noise_images, tmp_path):
    """Return a fine-tuning phase with twelve images and one to three captions per image, and its split."""
    random = np.random.default_rng(0)
    counts = [1 + index % 3 for index in range(12)]
    captions = np.full((sum(counts), 25), PAD, np.int32)
    for row, words in zip(captions, random.integers(1, 24, len(captions)), strict=True):
        row[: words + 2] = [START, *random.integers(4, 9, words), END]
    names = [f"{number:02}.png" for number in range(12)]
    rows = np.repeat(np.arange(12), counts)
    split = TrainingSplit(captions, rows, np.zeros((12, 49, 352)), np.arange(12), [["a dog"]] * 12, names)
    recipe = Recipe(fine_tuning=FineTuningConfig(fine_tuning_epochs=2, fine_tuning_images=5))
    encoder = EncoderInfo("efficientnet_lite2", "", Preprocess(), 49, 352)
    sources = DataPaths("", (), (str(noise_images),))
    run = Run(tmp_path / "run", recipe, sources, encoder, Vocabulary.from_words(["a", "b", "c", "d", "e"]))
    return FineTuning(run.in_phase("fine-tuning"), run, split), split


def test_fine_tuning_batches_have_all_captions_of_their_images(fine_tuning):
    phase, split = fine_tuning
    batches = list(phase.generate_batches(0, 0))
    assert len(batches) == phase.steps_per_epoch == 3
    seen = []
    for inputs, targets in batches:
        assert inputs["images"].shape == (5, 224, 224, 3)
        assert inputs["tokens"].shape == targets.shape and len(inputs["image_of"]) == len(targets)
        assert len(targets) % 8 == 0 and targets.shape[1] in (3, 7, 11, 15, 19, 23, 24)
        captions = np.column_stack([inputs["tokens"], targets[:, -1]])
        assert np.array_equal(captions[:, 1:], targets)
        seen += [tuple(row[row != PAD]) for row in captions]
        assert max(inputs["image_of"]) == 4
    assert {tuple(row[row != PAD]) for row in split.captions} == set(seen) - {()}


def test_captions_of_padding_do_not_change_the_weights(model):
    model.decoder.config["dropout"] = 0
    start = model.get_weights()

    def train(inputs, targets):
        model.set_weights(start)
        model.compile(keras.optimizers.SGD(0.1), MaskedCrossEntropy(), jit_compile=False)
        model.train_on_batch(inputs, targets)
        return model.get_weights()

    inputs, targets = make_batch()
    image_of, tokens = np.pad(inputs["image_of"], (0, 5)), np.pad(inputs["tokens"], ((0, 5), (0, 0)))
    filled = train({**inputs, "image_of": image_of, "tokens": tokens}, np.pad(targets, ((0, 5), (0, 0))))
    for one, other in zip(train(inputs, targets), filled, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_an_interrupted_epoch_of_fine_tuning_resumes_with_the_same_batches(fine_tuning):
    phase, _ = fine_tuning
    whole, rest = list(phase.generate_batches(1, 0)), list(phase.generate_batches(1, 2))
    assert len(rest) == 1
    for name, value in rest[0][0].items():
        assert np.array_equal(value, whole[2][0][name])
    assert not np.array_equal(whole[0][0]["tokens"], next(phase.generate_batches(0, 0))[0]["tokens"])


def test_an_encoder_that_cannot_be_exported_is_refused_before_training(fine_tuning, monkeypatch):
    phase, split = fine_tuning
    run = phase.run
    other = replace(run, encoder=replace(run.encoder, name="mobilenet_v2"))
    FineTuning(other, run, split)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    FineTuning(run, run, split)  # the shipped encoder can be exported without TensorFlow
    with pytest.raises(ConfigurationError, match="KERAS_BACKEND=tensorflow"):
        FineTuning(other, run, split)


def test_ties_in_cider_are_broken_by_the_lower_validation_loss():
    zero, lower, higher = ({"cider": cider, "val_loss": loss} for cider, loss in ((0, 5.8), (0, 5.4), (1, 6.0)))
    assert is_improvement(lower, zero) and not is_improvement(zero, lower) and not is_improvement(zero, zero)
    assert is_improvement(higher, lower) and not is_improvement(lower, higher)
