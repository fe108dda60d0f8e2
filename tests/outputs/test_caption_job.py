"""Caption jobs."""

import threading

import pytest

from showtell import Captioner
from showtell.errors import ConfigurationError
from showtell.outputs import CaptionJob, JsonLines, Output, Sidecars


class Recorder(Output):
    """An output that keeps its records. It fails for some images."""

    def __init__(self, is_per_image=False, failing=()):
        self.is_per_image = is_per_image
        self.failing = failing
        self.records = []
        self.is_closed = False

    def add(self, record, captions=()):
        if any(record["path"].endswith(name) for name in self.failing) and "error" not in record:
            raise OSError(28, "No space left on device", f"{record['path']}.out")
        self.records.append(record)

    def close(self):
        self.is_closed = True


@pytest.fixture
def captioner(looking_bundle):
    return Captioner.load(looking_bundle)


@pytest.fixture
def images(noise_images):
    return sorted(noise_images.iterdir())


def test_records_are_streamed_and_counted(captioner, images):
    images[5].write_bytes(b"no")
    output = Recorder()
    job = CaptionJob(captioner, images, [output])
    records = job.run()
    first = next(records)
    assert first == {"path": str(images[0]), "caption": "a dog"} and job.finished == 1 and not output.is_closed
    assert [first, *records] == output.records and output.is_closed
    assert (job.done, job.failed, job.skipped, job.needs_review) == (11, 1, 0, 0)
    assert [record["path"] for record in output.records if "error" in record] == [str(images[5])]


def test_an_image_is_skipped_if_all_resumable_outputs_have_its_caption(captioner, images, tmp_path):
    lines = JsonLines(tmp_path / "captions.jsonl")
    for image in images[:3]:
        lines.add({"path": str(image), "caption": "mine"})
    images[2].with_suffix(".txt").write_text("mine")
    sidecars = Sidecars(map(str, images))
    job = CaptionJob(captioner, images, [lines, sidecars, Recorder()])
    assert job.skipped == 1 and job.pending == [*images[:2], *images[3:]]
    assert CaptionJob(captioner, images, [lines, Recorder()]).skipped == 3
    assert CaptionJob(captioner, images, [Recorder()]).skipped == 0


def test_an_error_of_a_per_image_output_fails_only_the_image(captioner, images):
    output = Recorder()
    per_image = Recorder(is_per_image=True, failing=["03.png"])
    job = CaptionJob(captioner, images, [output, per_image])
    list(job.run())
    assert output.records[3] == {"path": str(images[3]), "error": f"{images[3]}.out: No space left on device"}
    assert len(per_image.records) == 11 and (job.done, job.failed) == (11, 1)


def test_an_error_of_any_other_output_stops_the_job(captioner, images):
    output = Recorder(failing=["03.png"])
    with pytest.raises(OSError, match="No space left"):
        list(CaptionJob(captioner, images, [output]).run())
    assert len(output.records) == 3 and not output.is_closed


def test_a_job_can_be_stopped(captioner, images):
    stop, calls = threading.Event(), []
    job = CaptionJob(captioner, images * 100)
    for _ in job.run(stop, on_stop=lambda: calls.append(job.finished)):
        stop.set()
    assert 1 <= job.finished < len(job.pending) == 1200 and len(calls) == 1


def test_search_options_and_confidence_threshold_are_applied(images):
    captioner = Captioner.load()
    options = captioner.search_options.override(n_best=2)
    job = CaptionJob(captioner, images[:2], options=options, min_confidence=1.0)
    records = list(job.run())
    assert all(len(record["captions"]) == 2 and record["needs_review"] for record in records) and job.needs_review == 2


def test_sidecar_files_of_two_images_with_the_same_name_collide(captioner, images, tmp_path):
    copy = images[3].with_suffix(".jpg")
    copy.write_bytes(images[3].read_bytes())
    output = Recorder()
    images.append(copy)
    job = CaptionJob(captioner, images, [Sidecars(map(str, images)), output])
    list(job.run())
    assert job.failed == 1 and "rename one of the images" in output.records[-1]["error"]
    with pytest.raises(ConfigurationError):
        Sidecars(map(str, images)).add({"path": str(copy), "caption": "a dog"})
