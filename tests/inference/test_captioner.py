import itertools
import pickle
import re
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from helpers import EXAMPLES
from PIL import Image

from showtell import Captioner
from showtell.errors import BundleError, ConfigurationError, ImageError, MismatchError
from showtell.inference.bundle import DEFAULT_BUNDLE, Bundle
from showtell.inference.search_options import SearchOptions
from showtell.vocabulary import Vocabulary

PHOTOS = sorted(EXAMPLES.glob("*.jpg"))


@pytest.fixture(scope="module")
def captioner():
    return Captioner.load()


def test_an_image_can_be_a_path_bytes_a_file_an_image_or_an_array(captioner):
    photo = PHOTOS[0]
    caption = captioner(photo)
    assert caption.text.split() == [*" ".join(caption.tokens).replace(" '", "'").split()]
    assert caption.log_prob < 0
    with Image.open(photo) as image, photo.open("rb") as file:
        sources = [str(photo), photo.read_bytes(), file, BytesIO(photo.read_bytes())]
        assert {captioner(source) for source in sources} == {caption}
        # Pixels differ slightly, because JPEG files are decoded at a reduced scale, and images and arrays are not.
        assert captioner(image).text == caption.text
        assert captioner(np.asarray(image.convert("RGB"))) == captioner(image)


@pytest.mark.parametrize("source", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), b"no image"])
def test_invalid_arrays_and_bytes_raise_image_errors(captioner, source):
    with pytest.raises(ImageError, match="the image: "):
        captioner(source)


def test_wrong_argument_types_are_type_errors(captioner):
    with pytest.raises(TypeError, match="not an image source: int"):
        captioner(3)
    for image in ("photo.jpg", BytesIO(b"image")):
        with pytest.raises(TypeError, match="pass a list"):
            captioner.caption(image)


def test_search_options_can_be_keywords(captioner):
    caption = captioner(PHOTOS[0], n_best=4, max_length=5)
    assert len(caption.alternatives) == 3 and caption.score >= caption.alternatives[0].score
    assert all(len(each.tokens) <= 5 for each in (caption, *caption.alternatives))
    assert captioner(PHOTOS[0], strategy="greedy") == captioner(
        PHOTOS[0], SearchOptions(strategy="greedy", length_penalty=0.7, no_repeat_ngram_size=2)
    )
    with pytest.raises(ConfigurationError, match="unknown search option 'beams'; available: strategy, beam_size"):
        captioner(PHOTOS[0], beams=3)
    with pytest.raises(ValueError, match="batch_size"):
        captioner.caption(PHOTOS, batch_size=0)


def test_a_captioner_can_be_pickled_after_use(captioner):
    captioner(PHOTOS[0])
    assert pickle.loads(pickle.dumps(captioner))(PHOTOS[0]) == captioner(PHOTOS[0])


def test_notebooks_show_image_caption_and_confidence(captioner, looking_bundle, tmp_path):
    sure = captioner(EXAMPLES / "000000129648.jpg")._repr_html_()
    assert '<img src="data:image/jpeg;base64,' in sure and re.search(r"on a ramp <small>\[\d+%\]</small>", sure)
    assert "<small>[unsure, " in captioner(EXAMPLES / "000000126107.jpg")._repr_html_()
    bad = tmp_path / "<b>.jpg"
    good, error = captioner.caption([PHOTOS[0], bad], n_best=2)
    assert good._repr_html_().count("<small>") == 2
    assert "&lt;b&gt;.jpg" in error._repr_html_() and "<b>" not in error._repr_html_()
    assert "<small>" not in Captioner.load(looking_bundle)(PHOTOS[0])._repr_html_()
    with PHOTOS[0].open("rb") as file:
        (result,) = captioner.caption([file])
    assert "<img" in result._repr_html_() and "<img" in result.captions[0]._repr_html_()


def test_caption_equals_call_and_keeps_the_order_with_errors(captioner, tmp_path):
    sources = [*PHOTOS, tmp_path / "absent.jpg", *PHOTOS, *PHOTOS]
    results = list(captioner.caption(sources))
    assert [result.source for result in results] == sources
    assert isinstance(results[6].error, ImageError) and results[6].captions == ()
    for result in results[:6]:
        together, alone = result.captions[0], captioner(result.source)
        assert (together.text, together.log_prob) == (alone.text, alone.log_prob)
    with pytest.raises(ImageError, match=r"absent\.jpg"):
        captioner(tmp_path / "absent.jpg")


def test_an_endless_stream_is_read_lazily(captioner):
    drawn = 0

    def endless():
        nonlocal drawn
        for photo in itertools.cycle(PHOTOS):
            drawn += 1
            yield photo

    assert len(list(itertools.islice(captioner.caption(endless()), 10))) == 10
    assert drawn < 100


def test_search_options_change_the_captions(captioner):
    (result,) = captioner.caption(PHOTOS[:1], SearchOptions(n_best=3, max_length=4))
    assert len(result.captions) == 3 and all(len(caption.tokens) <= 4 for caption in result.captions)
    word = captioner(PHOTOS[0]).tokens[1]
    suppressed = captioner.vocabulary.tokens.index(word)
    assert word not in captioner(PHOTOS[0], replace(captioner.search_options, suppress_tokens=(suppressed,))).tokens


def test_an_ensemble_averages_its_models_and_needs_one_vocabulary(captioner):
    bundle = Bundle.load(DEFAULT_BUNDLE)
    (twice,) = Captioner([bundle, bundle]).caption(PHOTOS[:1])
    assert twice.captions[0].text == captioner(PHOTOS[0]).text
    assert twice.captions[0].log_prob == pytest.approx(captioner(PHOTOS[0]).log_prob, abs=1e-4)
    cropping = replace(bundle.encoder, preprocess=replace(bundle.encoder.preprocess, resize="crop"))
    (both,) = Captioner([bundle, replace(bundle, encoder=cropping)]).caption(PHOTOS[:1])
    assert both.captions[0].log_prob != pytest.approx(twice.captions[0].log_prob, abs=1e-3)
    words = bundle.vocabulary.tokens[4:]
    other = Vocabulary.from_words((*words[1:], words[0])).to_json().encode()
    with pytest.raises(ConfigurationError, match="at least one bundle"):
        Captioner([])
    with pytest.raises(MismatchError, match="one vocabulary"):
        Captioner([bundle, replace(bundle, files={**bundle.files, "vocabulary.json": other})])


def test_special_tokens_are_never_generated(captioner):
    noise = np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3), dtype=np.uint8)
    for strategy in ("beam", "greedy", "sample"):
        for found in captioner.search([noise], replace(captioner.search_options, strategy=strategy)):
            assert min(found[0].tokens, default=4) >= 4


def test_attention_shows_where_the_model_looked_for_each_token(looking_bundle, blind_bundle, night_image):
    looking = Captioner.load(looking_bundle)
    caption = looking(night_image)
    assert caption.text == "a dog" and caption.attention.shape == (2, 4) and caption.attention.dtype == np.float32
    # The model attends to the bright cell, at the upper right, for "a", and to the three dark ones for "dog".
    brightness = np.array([20, 240, 20, 20])
    for weights, sign in zip(caption.attention, (0.02, -0.02), strict=True):
        expected = np.exp(sign * brightness)
        assert weights == pytest.approx(expected / expected.sum(), abs=0.02)
    blind = Captioner.load(blind_bundle)
    assert blind(night_image).text == "a dog" and blind(night_image).attention is None
    assert looking.has_attention and not blind.has_attention


def test_a_space_token_is_not_part_of_the_tokens(looking_bundle, night_image):
    bundle = Bundle.load(looking_bundle)
    vocabulary = Vocabulary.build(["a a b"], size=2, kind="char")
    assert vocabulary.tokens[4:] == ("▁", "a")
    caption = Captioner([replace(bundle, files={**bundle.files, "vocabulary.json": vocabulary.to_json().encode()})])(
        night_image
    )
    whole = Captioner([bundle])(night_image)
    assert caption.text == "a" and caption.tokens == ("a",) and caption.log_prob == whole.log_prob
    assert np.array_equal(caption.attention, whole.attention[1:])


def test_an_ensemble_has_the_attention_of_its_attention_models(looking_bundle, blind_bundle, night_image):
    both = Captioner.load(looking_bundle, blind_bundle)
    assert both.has_attention
    assert both(night_image).attention == pytest.approx(Captioner.load(looking_bundle)(night_image).attention)


def test_a_decoder_and_a_vocabulary_of_different_size_are_refused(looking_bundle, night_image):
    bundle = Bundle.load(looking_bundle)
    short = Vocabulary.from_words(["a"]).to_json().encode()
    wrong = replace(bundle, files={**bundle.files, "vocabulary.json": short})
    with pytest.raises(BundleError, match="the decoder has 6 tokens, but its vocabulary has 5"):
        Captioner([wrong])(night_image)
