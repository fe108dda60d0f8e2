"""Shards, and the work on one shard, without a Ray cluster."""

import io
import tarfile
from pathlib import Path

import pytest
from helpers import EXAMPLES

pytest.importorskip("ray", reason="needs Ray: pip install 'showtell[ray]'")

import pyarrow
import pyarrow.parquet

from showtell.errors import ConfigurationError
from showtell.inference.captioner import BATCH_SIZE, Captioner
from showtell.ray.folder import JobFolder
from showtell.ray.inputs import Shard, list_shards
from showtell.ray.work import CaptionWork, Count

PHOTOS = sorted(EXAMPLES.glob("*.jpg"))


@pytest.fixture(scope="module")
def captioning():
    captioner = Captioner.load()
    return CaptionWork(captioner.bundles, captioner.search_options, None, "parquet", BATCH_SIZE)


@pytest.fixture(scope="module")
def expected_captions(captioning):
    """The caption and confidence of each example image."""
    captioner = Captioner(captioning.bundles)
    return [(result.captions[0].text, round(result.captions[0].confidence, 3)) for result in captioner.caption(PHOTOS)]


def process(captioning, shards, folder):
    """Caption shards in this process. Return the rows of the captions and of the errors."""
    for number, shard in enumerate(shards):
        captioning(shard, str(number), JobFolder(str(folder)))
    return [
        [row for file in sorted(folder.glob(f"{kind}/*")) for row in pyarrow.parquet.read_table(file).to_pylist()]
        for kind in ("captions", "errors")
    ]


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_each_tar_is_a_shard_and_damaged_members_are_errors(captioning, expected_captions, tmp_path):
    members = [(f"{number}.{kind}", photo.read_bytes() if kind == "jpg" else b"{}")
               for number, photo in enumerate(PHOTOS) for kind in ("jpg", "json")]  # fmt: skip
    write_tar(tmp_path / "a.tar", [*members[:6], ("bad.png", b"no image")])
    write_tar(tmp_path / "b.tar", members[6:])
    truncated = tmp_path / "c.tar"
    write_tar(truncated, members)
    truncated.write_bytes(truncated.read_bytes()[:5000])
    shards = list_shards([str(tmp_path)], 1000)
    assert [shard.urls for shard in shards] == [(str(tmp_path / f"{name}.tar"),) for name in "abc"]
    assert shards[0].name_of(f"{tmp_path}/a.tar/0.jpg") == "0.jpg"
    captions, errors = process(captioning, shards, tmp_path / "out")
    paths = [f"{tmp_path}/a.tar/{n}.jpg" for n in range(3)] + [f"{tmp_path}/b.tar/{n}.jpg" for n in range(3, 6)]
    assert [row["path"] for row in captions] == paths
    assert [(row["caption"], row["confidence"]) for row in captions] == expected_captions
    bad, cut_off = errors
    assert bad["path"] == f"{tmp_path}/a.tar/bad.png"
    assert bad["error"].startswith(f"'{tmp_path}/a.tar/bad.png': not an image")
    assert cut_off["path"] == str(truncated) and "damaged" in cut_off["error"]


def test_each_row_group_of_a_parquet_file_is_a_shard(captioning, expected_captions, tmp_path):
    rows = [{"url": f"https://example.org/{photo.name}", "image": photo.read_bytes()} for photo in PHOTOS]
    file = tmp_path / "images.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([*rows, {"url": "x", "image": None}]), file, row_group_size=4)
    shards = list_shards([file.as_uri()], 1000)
    assert [shard.row_group for shard in shards] == [0, 1]
    captions, errors = process(captioning, shards, tmp_path / "out")
    assert [row["path"] for row in captions] == [row["url"] for row in rows]
    assert [row["caption"] for row in captions] == [caption for caption, _ in expected_captions]
    assert [row["path"] for row in errors] == ["x"]


def test_parquet_files_of_hugging_face_and_rows_without_names(tmp_path):
    rows = [{"image": {"bytes": b"a", "path": None}}, {"image": {"bytes": b"b", "path": "b.jpg"}}] * 2
    file = tmp_path / "images.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, row_group_size=2)
    second = list_shards([str(file)], 1000)[1]
    assert list(second.images()) == [(f"{file}/2", b"a"), ("b.jpg", b"b")]
    assert second.name_of(f"{file}/2") == "2"


def test_parquet_files_with_urls(tmp_path):
    urls = [PHOTOS[0].as_uri(), (tmp_path / "absent.jpg").as_uri()]
    file = tmp_path / "list.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"url": urls, "width": [1, 2]}), file)
    (first, content), (second, error) = list_shards([str(file)], 1000)[0].images()
    assert [first, second] == urls
    assert content == PHOTOS[0].read_bytes() and "no such file" in str(error)
    pyarrow.parquet.write_table(pyarrow.table({"width": [1, 2]}), file)
    with pytest.raises(ConfigurationError, match=r"no column has image bytes or one of the names path.*columns: width"):
        list_shards([str(file)], 1000)
    file.write_bytes(b"no Parquet")
    with pytest.raises(ConfigurationError, match="not a readable Parquet file"):
        list_shards([str(file)], 1000)


def test_a_folder_and_its_url_have_the_same_shards(tmp_path):
    (tmp_path / "more").mkdir()
    for number in range(97):
        (tmp_path / "more" / f"{number}.jpg" if number % 3 else tmp_path / f"{number}.jpg").touch()
    by_path, by_url = list_shards([str(tmp_path)], 40), list_shards([tmp_path.as_uri()], 40)
    assert [len(shard.urls) for shard in by_path] == [40, 40, 17]
    files = [
        {Path(url.removeprefix("file://")) for shard in shards for url in shard.urls} for shards in (by_path, by_url)
    ]
    assert files[0] == files[1] and by_url[0].urls[0].startswith("file:///")
    for place in (str(tmp_path), tmp_path.as_uri()):
        assert len(list_shards([place], 1000, recursive=False)[0].urls) == 33


def test_results_can_be_written_to_a_url_and_contain_the_input_urls(captioning, expected_captions):
    folder = JobFolder("memory://bucket/out")
    shard = Shard("files", tuple(photo.as_uri() for photo in PHOTOS))
    assert captioning(shard, "00000-of-00001", folder) == Count(len(PHOTOS), 0)
    assert folder.files("captions", ".parquet") == {"00000-of-00001"} and not folder.files("errors", "")
    import fsspec

    with fsspec.open("memory://bucket/out/captions/00000-of-00001.parquet", "rb") as file:
        rows = pyarrow.parquet.read_table(file).to_pylist()
    assert [row["path"] for row in rows] == list(shard.urls)
    assert [row["caption"] for row in rows] == [caption for caption, _ in expected_captions]


def test_a_folder_belongs_to_one_job(tmp_path):
    folder = JobFolder(str(tmp_path / "out"))
    folder.claim({"work": "captions", "search": {"suppress_tokens": (1,)}})
    folder.claim({"work": "captions", "search": {"suppress_tokens": (1,)}})
    with pytest.raises(ConfigurationError, match=r"contains a different job \(changed: search"):
        folder.claim({"work": "captions", "search": {"suppress_tokens": ()}})
    (tmp_path / "letter.txt").write_text("dear reader")
    with pytest.raises(ConfigurationError, match="folder is not empty"):
        JobFolder(str(tmp_path)).claim({})
