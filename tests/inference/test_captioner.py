import itertools
from dataclasses import replace

import numpy as np
import pytest
from helpers import EXAMPLES

from showtell import Captioner
from showtell.errors import BundleError, ImageError, MismatchError
from showtell.inference.bundle import Bundle
from showtell.inference.captioner import DEFAULT_BUNDLE
from showtell.inference.search import SearchOptions
from showtell.vocabulary import Vocabulary

PHOTOS = sorted(EXAMPLES.glob("*.jpg"))


@pytest.fixture(scope="module")
def captioner():
    return Captioner.load()


def test_one_image_by_path_by_name_and_by_its_bytes(captioner):
    caption = captioner(PHOTOS[0])
    assert caption == captioner(str(PHOTOS[0])) == captioner(PHOTOS[0].read_bytes())
    assert caption.text.split() == [*" ".join(caption.tokens).replace(" '", "'").split()]
    assert caption.log_prob < 0


def test_many_images_are_captioned_as_each_alone_and_an_error_has_its_place(captioner, tmp_path):
    sources = [*PHOTOS, tmp_path / "absent.jpg", *PHOTOS, *PHOTOS]
    results = list(captioner.caption(sources))
    assert [result.source for result in results] == sources
    assert isinstance(results[6].error, ImageError) and results[6].captions == ()
    for result in results[:6]:
        together, alone = result.captions[0], captioner(result.source)
        assert (together.text, together.log_prob) == (alone.text, alone.log_prob)
    with pytest.raises(ImageError, match=r"absent\.jpg"):
        captioner(tmp_path / "absent.jpg")


def test_an_endless_stream_gives_its_first_captions(captioner):
    drawn = 0

    def endless():
        nonlocal drawn
        for photo in itertools.cycle(PHOTOS):
            drawn += 1
            yield photo

    assert len(list(itertools.islice(captioner.caption(endless()), 10))) == 10
    assert drawn < 100


def test_the_search_can_be_changed(captioner):
    (result,) = captioner.caption(PHOTOS[:1], SearchOptions(n_best=3, max_length=4))
    assert len(result.captions) == 3 and all(len(caption.tokens) <= 4 for caption in result.captions)
    word = captioner(PHOTOS[0]).tokens[1]
    suppressed = captioner.vocabulary.words.index(word)
    assert word not in captioner(PHOTOS[0], replace(captioner.search_options, suppress_tokens=(suppressed,))).tokens


def test_an_ensemble_averages_and_needs_one_vocabulary(captioner):
    bundle = Bundle.load(DEFAULT_BUNDLE)
    (twice,) = Captioner([bundle, bundle]).caption(PHOTOS[:1])
    assert twice.captions[0].text == captioner(PHOTOS[0]).text
    assert twice.captions[0].log_prob == pytest.approx(captioner(PHOTOS[0]).log_prob, abs=1e-4)
    cropping = replace(bundle.encoder, preprocess=replace(bundle.encoder.preprocess, resize="crop"))
    (both,) = Captioner([bundle, replace(bundle, encoder=cropping)]).caption(PHOTOS[:1])
    assert both.captions[0].log_prob != pytest.approx(twice.captions[0].log_prob, abs=1e-3)
    words = bundle.vocabulary.words[4:]
    other = Vocabulary.from_words((*words[1:], words[0])).to_json().encode()
    with pytest.raises(MismatchError, match="one vocabulary"):
        Captioner([bundle, replace(bundle, files={**bundle.files, "vocabulary.json": other})])


def test_special_tokens_are_never_said(captioner):
    noise = np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3), dtype=np.uint8)
    for strategy in ("beam", "greedy", "sample"):
        for found in captioner.search([noise], replace(captioner.search_options, strategy=strategy)):
            assert min(found[0].tokens, default=4) >= 4


def test_attention_tells_where_each_word_was_looked_for(looking_bundle, blind_bundle, night_image):
    looking = Captioner.load(looking_bundle)
    caption = looking(night_image)
    assert caption.text == "a dog" and caption.attention.shape == (2, 4) and caption.attention.dtype == np.float32
    # "a" is looked for in the bright cell, at the upper right; "dog" in the three dark ones alike.
    brightness = np.array([20, 240, 20, 20])
    for weights, sign in zip(caption.attention, (0.02, -0.02), strict=True):
        expected = np.exp(sign * brightness)
        assert weights == pytest.approx(expected / expected.sum(), abs=0.02)
    blind = Captioner.load(blind_bundle)
    assert blind(night_image).text == "a dog" and blind(night_image).attention is None
    assert looking.has_attention and not blind.has_attention


def test_a_blank_that_is_a_token_is_none_of_the_captions_tokens(looking_bundle, night_image):
    bundle = Bundle.load(looking_bundle)
    vocabulary = Vocabulary.build(["a a b"], size=2, kind="char")
    assert vocabulary.words[4:] == ("▁", "a")
    caption = Captioner([replace(bundle, files={**bundle.files, "vocabulary.json": vocabulary.to_json().encode()})])(
        night_image
    )
    whole = Captioner([bundle])(night_image)
    assert caption.text == "a" and caption.tokens == ("a",) and caption.log_prob == whole.log_prob
    assert np.array_equal(caption.attention, whole.attention[1:])


def test_an_ensemble_has_the_attention_of_its_members_that_have_any(looking_bundle, blind_bundle, night_image):
    both = Captioner.load(looking_bundle, blind_bundle)
    assert both.has_attention
    assert both(night_image).attention == pytest.approx(Captioner.load(looking_bundle)(night_image).attention)


def test_a_model_that_chooses_among_other_words_than_its_vocabulary_has_is_refused(looking_bundle, night_image):
    bundle = Bundle.load(looking_bundle)
    short = Vocabulary.from_words(["a"]).to_json().encode()
    wrong = replace(bundle, files={**bundle.files, "vocabulary.json": short})
    with pytest.raises(BundleError, match="chooses among 6 words, its vocabulary has 5"):
        Captioner([wrong])(night_image)
