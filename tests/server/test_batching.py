from dataclasses import replace

import pytest
from helpers import EXAMPLES

from showtell.errors import ConfigurationError
from showtell.inference.captioner import Captioner
from showtell.server import ServerSettings
from showtell.server.batching import BATCH_SIZE, Batcher
from showtell.server.decode_pool import DecodePool

PHOTO = (EXAMPLES / "000000126107.jpg").read_bytes()


@pytest.fixture
def captioner(looking_bundle):
    captioner = Captioner.load(looking_bundle)
    captioner.open_models()
    return captioner


def create_batcher(captioner, **options):
    return Batcher(captioner, DecodePool(captioner.preprocesses, ServerSettings()), **options)


def test_batches_have_equal_options_and_the_oldest_image_goes_first(captioner):
    one = captioner.search_options
    two = replace(one, n_best=2)
    sizes = []
    with create_batcher(captioner, on_batch=sizes.append) as batcher:
        futures = [batcher.submit(PHOTO, two if number % 2 else one) for number in range(4 * BATCH_SIZE)]
        assert [len(future.result(20).captions) for future in futures] == [1, 2] * 2 * BATCH_SIZE
    assert sum(sizes) == 4 * BATCH_SIZE and max(sizes) <= BATCH_SIZE


def test_waiting_images_are_cancelled_on_exit(captioner):
    with create_batcher(captioner) as batcher:
        futures = [batcher.submit(PHOTO, captioner.search_options) for _ in range(200)]
    assert all(future.done() for future in futures) and futures[-1].cancelled()
    assert batcher.submit(PHOTO, captioner.search_options).cancelled()


def test_cancelled_images_are_skipped(captioner):
    sizes = []
    batcher = create_batcher(captioner, on_batch=sizes.append)
    future = batcher.submit(PHOTO, captioner.search_options)
    future.cancel()
    with batcher:
        assert batcher.submit(PHOTO, captioner.search_options).result(20).captions[0].text == "a dog"
    assert future.cancelled() and sizes == [1]


def test_unreadable_images_get_an_error(captioner):
    with create_batcher(captioner) as batcher:
        broken = batcher.submit(b"no image", captioner.search_options)
        intact = batcher.submit(PHOTO, captioner.search_options)
        assert "not an image" in str(broken.result(20).error) and intact.result(20).error is None


def test_model_failures_only_affect_their_batch(captioner):
    bad = replace(captioner.search_options, suppress_tokens=(99,))
    with create_batcher(captioner) as batcher:
        with pytest.raises(ConfigurationError, match="suppress_tokens"):
            batcher.submit(PHOTO, bad).result(20)
        assert batcher.submit(PHOTO, captioner.search_options).result(20).captions[0].text == "a dog"
