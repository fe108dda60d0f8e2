"""What the phases of training do in a step."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from showtell.encoder import EncoderInfo
from showtell.errors import ConfigurationError
from showtell.images import Preprocess
from showtell.inference.search import Hypothesis
from showtell.recipe import FineTuningConfig, ModelConfig, Recipe, SelfCriticalConfig
from showtell.training.batches import TrainingSplit
from showtell.training.cross_entropy import scheduled_sampling
from showtell.training.decoders import MaskedCrossEntropy, ShowAttendTell, new_decoder
from showtell.training.fine_tuning import AdamTwoLearningRates, EncoderDecoder, FineTuning, augment
from showtell.training.phases import improves
from showtell.training.run import DataPaths, Run, save_model
from showtell.training.self_critical import SelfCritical, mean_of_others, passes_reward_hacking_check, sampled_batch
from showtell.vocabulary import END, PAD, START, Vocabulary


def sure_of(words, size=9):
    """Logits (N, T, V) that leave no doubt about words (N, T)."""
    return 100.0 * np.eye(size, dtype=np.float32)[np.asarray(words)]


def test_words_are_replaced_by_what_the_model_would_have_said_there():
    tokens = np.array([[START, 4, 5, END, PAD], [START, 6, 7, 8, END]])
    logits = sure_of([[8, 7, 6, 5, 4], [4, 5, 6, 7, 8]])
    every = scheduled_sampling(logits, tokens, 1.0, np.random.default_rng(0))
    assert every.tolist() == [[START, 8, 7, END, PAD], [START, 4, 5, 6, END]]
    assert scheduled_sampling(logits, tokens, 0.0, np.random.default_rng(0)).tolist() == tokens.tolist()


def test_so_many_words_are_replaced_as_asked_and_drawn_by_their_probability():
    tokens = np.full((400, 11), 4)
    tokens[:, 0] = START
    logits = np.log(np.broadcast_to([1e-9] * 5 + [0.25, 0.75], (400, 11, 7)))
    mixed = scheduled_sampling(logits, tokens, 0.3, np.random.default_rng(0))
    assert np.mean(mixed[:, 1:] != 4) == pytest.approx(0.3, abs=0.03)
    drawn = mixed[mixed > 4]
    assert np.mean(drawn == 6) == pytest.approx(0.75, abs=0.05)


def test_an_advantage_is_the_reward_less_the_mean_of_the_other_samples():
    rewards = np.array([[1.0, 2.0, 6.0], [0.5, 0.5, 0.5]])
    assert mean_of_others(rewards).tolist() == [[4.0, 3.5, 1.5], [0.5, 0.5, 0.5]]


def test_sampled_captions_become_tokens_and_targets():
    ended = Hypothesis((4, 5), -3.0, (-1.0, -1.0, -1.0), -3.0, finished=True)
    cut = Hypothesis((6, 7, 8), -3.0, (-1.0, -1.0, -1.0), -3.0, finished=False)
    empty = Hypothesis((), -1.0, (-1.0,), -1.0, finished=True)
    tokens, targets, real = sampled_batch([ended, cut, empty])
    assert tokens.tolist() == [[START, 4, 5], [START, 6, 7], [START, END, PAD]]
    assert targets.tolist() == [[4, 5, END], [6, 7, 8], [END, PAD, PAD]]
    assert real.tolist() == [[True] * 3, [True] * 3, [True, False, False]]


def test_cider_that_was_bought_with_bleu_or_repetition_does_not_count():
    first = {"bleu_4": 20.0, "repeated_bigrams": 0.02}
    assert passes_reward_hacking_check({"bleu_4": 19.6, "repeated_bigrams": 0.02}, first)
    assert not passes_reward_hacking_check({"bleu_4": 19.4, "repeated_bigrams": 0.0}, first)
    assert not passes_reward_hacking_check({"bleu_4": 22.0, "repeated_bigrams": 0.03}, first)
    assert passes_reward_hacking_check(
        {"bleu_4": 20.0, "repeated_bigrams": 0.005}, {"bleu_4": 20.0, "repeated_bigrams": 0.0}
    )


def self_critical_phase(folder, references):
    """Self-critical training of a tiny untrained decoder, on two images with three captions each, of four words."""
    model = ModelConfig(embedding_size=16, units=16)
    settings = SelfCriticalConfig(1, self_critical_learning_rate=0.01, self_critical_images=2, samples_per_image=16)
    recipe = Recipe(model=model, self_critical=settings).override({"max_length": 6})
    run = Run(folder, recipe, DataPaths("", ()), None, Vocabulary.from_words(["red", "dog", "blue", "cat"]))
    keras.utils.set_random_seed(0)
    save_model(new_decoder(model, len(run.vocabulary), 2), run.best)
    features = np.eye(2, dtype=np.float32)[:, None]
    rows = np.arange(2)
    split = TrainingSplit(np.zeros((2, 6), np.int32), rows, features, rows, references, ["0", "1"])
    return SelfCritical(run.in_phase("self-critical"), run, split)


def test_a_rewarded_caption_becomes_likelier_and_a_punished_one_less_likely(tmp_path):
    phase = self_critical_phase(tmp_path, [["red dog"] * 3, ["blue cat"] * 3])
    model = phase.new_model()
    red_dog, blue_cat = [4, 5, END], [6, 7, END]

    def log_probs(said):
        inputs = {"features": phase._training.features, "tokens": np.array([[START, *said[:-1]]] * 2)}
        logits = keras.ops.convert_to_numpy(keras.ops.log_softmax(model(inputs)))
        return np.take_along_axis(logits, np.array([said] * 2)[..., None], axis=2).sum(axis=(1, 2))

    before = log_probs(red_dog), log_probs(blue_cat)
    losses = [phase.train_on(model, np.arange(2), 0)[0] for _ in range(80)]
    gained = log_probs(red_dog) - before[0], log_probs(blue_cat) - before[1]
    assert gained[0][0] > 1 > -1 > gained[0][1] and gained[1][1] > 1 > -1 > gained[1][0]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_samples_that_are_all_worth_the_same_teach_nothing(tmp_path):
    phase = self_critical_phase(tmp_path, [["purple"] * 3, ["yellow"] * 3])  # words that it cannot say
    model = phase.new_model()
    before = model.get_weights()
    assert phase.train_on(model, np.arange(2), 0) == (0, 32)
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


def test_epochs_cannot_lose_half_a_point_of_bleu_each(tmp_path):
    phase = self_critical_phase(tmp_path, [["red"], ["blue"]])
    names = ("cider", "bleu_4", "repeated_bigrams", "val_loss")
    first, second, third = (
        dict(zip(names, values, strict=True)) for values in ((50, 20, 0, 2), (51, 19.6, 0, 2), (52, 19.3, 0, 2))
    )
    phase.run.write_history([first])
    assert phase.is_better(second, first)
    phase.run.write_history([first, second])
    assert not phase.is_better(third, second) and phase.is_better({**third, "bleu_4": 19.5}, second)


def test_augmented_images_are_crops_that_follow_from_the_seed():
    column = np.arange(64, dtype=np.uint8)
    image = np.broadcast_to(column[None, :, None], (64, 64, 3)).copy()
    crops = [augment(image, mirror, np.random.default_rng(seed)) for mirror in (False, True) for seed in range(20)]
    again = [augment(image, mirror, np.random.default_rng(seed)) for mirror in (False, True) for seed in range(20)]
    assert all(np.array_equal(one, other) for one, other in zip(crops, again, strict=True))
    assert {crop.shape for crop in crops} == {(64, 64, 3)}
    rising = [int(crop[32, 60, 0]) > int(crop[32, 3, 0]) for crop in crops]
    assert all(rising[:20]) and 4 < sum(rising[20:]) < 16
    shown = [abs(int(crop[32, 63, 0]) - int(crop[32, 0, 0])) for crop in crops]
    assert min(shown) >= 0.75 * 63 and len(set(shown)) > 3


@pytest.fixture
def joined():
    keras.utils.set_random_seed(0)
    images = keras.Input((4, 4, 3), dtype="uint8")
    first = keras.layers.Dense(6, activation="relu", name="first")(keras.layers.Rescaling(1 / 255)(images))
    cells = keras.layers.Reshape((16, 5))(keras.layers.Dense(5, name="second")(first))
    encoder = keras.Model(images, cells)
    decoder = ShowAttendTell(9, 5, 8, 8, dropout=0.5)
    decoder.build()
    model = EncoderDecoder(encoder, decoder)
    model.build()
    return model


def batch():
    random = np.random.default_rng(0)
    tokens = np.array([[START, 4, 5], [START, 6, 7], [START, 8, 4]])
    inputs = {
        "images": random.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8),
        "image_of": np.array([0, 0, 1]),
        "tokens": tokens,
    }
    return inputs, np.array([[4, 5, END], [6, 7, END], [8, 4, END]])


def test_captions_are_read_with_the_features_of_their_image(joined):
    inputs, _ = batch()
    together = keras.ops.convert_to_numpy(joined(inputs))
    features = joined.encoder.predict_on_batch(inputs["images"])[[0, 0, 1]]
    apart = keras.ops.convert_to_numpy(joined.decoder({"features": features, "tokens": inputs["tokens"]}))
    assert together == pytest.approx(apart, abs=1e-5)


def test_the_encoder_learns_with_a_rate_of_its_own_and_frozen_layers_not_at_all(joined):
    joined.encoder.get_layer("first").trainable = False
    learning = len(joined.encoder.trainable_variables)
    optimizer = AdamTwoLearningRates(0.1, learning, learning_rate=0.01)
    joined.compile(optimizer, MaskedCrossEntropy(), jit_compile=False)
    before = [weight.numpy() for weight in joined.weights]
    joined.train_on_batch(*batch())
    moved = {
        weight.path: np.abs(weight.numpy() - old).max() for weight, old in zip(joined.weights, before, strict=True)
    }
    # The first step of Adam is the learning rate itself.
    assert moved["first/kernel"] == moved["first/bias"] == 0
    assert moved["second/kernel"] == pytest.approx(0.001, rel=0.01)
    assert moved[joined.decoder.logits.kernel.path] == pytest.approx(0.01, rel=0.01)


def test_encoder_and_decoder_come_back_together_with_their_optimizer(joined, tmp_path):
    joined.compile(AdamTwoLearningRates(0.1, 4, learning_rate=0.01), MaskedCrossEntropy(0.1), jit_compile=False)
    joined.train_on_batch(*batch())
    joined.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert (loaded.optimizer.factor, loaded.optimizer.first) == (0.1, 4)
    for model in (joined, loaded):
        model.train_on_batch(*batch())
    for ours, theirs in zip(joined.get_weights(), loaded.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.fixture
def fine_tuning(noise_images, tmp_path):
    """Fine-tuning of twelve pictures, one caption for the first, two for the second, up to three; some fill all 25."""
    random = np.random.default_rng(0)
    counts = [1 + place % 3 for place in range(12)]
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


def test_fine_tuning_reads_each_image_with_all_its_captions(fine_tuning):
    phase, split = fine_tuning
    batches = list(phase.batches(0, 0))
    assert len(batches) == phase.steps_an_epoch == 3
    seen = []
    for inputs, targets in batches:
        assert inputs["images"].shape == (5, 224, 224, 3)
        assert inputs["tokens"].shape == targets.shape and len(inputs["image_of"]) == len(targets)
        assert len(targets) % 8 == 0 and targets.shape[1] in (3, 7, 11, 15, 19, 23, 24)
        whole = np.column_stack([inputs["tokens"], targets[:, -1]])
        assert np.array_equal(whole[:, 1:], targets)
        seen += [tuple(row[row != PAD]) for row in whole]
        assert max(inputs["image_of"]) == 4
    assert {tuple(row[row != PAD]) for row in split.captions} == set(seen) - {()}


def test_empty_captions_that_fill_a_batch_teach_nothing(joined):
    joined.decoder.config["dropout"] = 0
    start = joined.get_weights()

    def learnt(inputs, targets):
        joined.set_weights(start)
        joined.compile(keras.optimizers.SGD(0.1), MaskedCrossEntropy(), jit_compile=False)
        joined.train_on_batch(inputs, targets)
        return joined.get_weights()

    inputs, targets = batch()
    image_of, tokens = np.pad(inputs["image_of"], (0, 5)), np.pad(inputs["tokens"], ((0, 5), (0, 0)))
    filled = learnt({**inputs, "image_of": image_of, "tokens": tokens}, np.pad(targets, ((0, 5), (0, 0))))
    for one, other in zip(learnt(inputs, targets), filled, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_an_interrupted_epoch_of_fine_tuning_goes_on_with_the_same_batches(fine_tuning):
    phase, _ = fine_tuning
    whole, rest = list(phase.batches(1, 0)), list(phase.batches(1, 2))
    assert len(rest) == 1
    for name, value in rest[0][0].items():
        assert np.array_equal(value, whole[2][0][name])
    assert not np.array_equal(whole[0][0]["tokens"], next(phase.batches(0, 0))[0]["tokens"])


def test_an_encoder_that_could_not_be_written_is_refused_before_training(fine_tuning, monkeypatch):
    phase, split = fine_tuning
    run = phase.run
    other = replace(run, encoder=replace(run.encoder, name="mobilenet_v2"))
    FineTuning(other, run, split)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    FineTuning(run, run, split)  # the one that ships is written without TensorFlow
    with pytest.raises(ConfigurationError, match="KERAS_BACKEND=tensorflow"):
        FineTuning(other, run, split)


def test_of_epochs_with_the_same_cider_the_one_with_the_lower_loss_is_better():
    zero, lower, higher = ({"cider": cider, "val_loss": loss} for cider, loss in ((0, 5.8), (0, 5.4), (1, 6.0)))
    assert improves(lower, zero) and not improves(zero, lower) and not improves(zero, zero)
    assert improves(higher, lower) and not improves(lower, higher)
