"""Each file of the zoo gets a caption or a one-line error, for every kind of output."""

import csv
import json
import os
import subprocess
import sys
from importlib.util import find_spec

import httpx
import pytest
import zoo
from helpers import ROOT
from PIL import features


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    zoo.make(folder)
    return folder


def caption(folder, *options):
    """Run the command line in the folder. The output is bytes, because some names are not text."""
    command = [sys.executable, "-m", "showtell", "caption", ".", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    return done


def has_expected_result(exhibit, entry):
    return "caption" in entry if exhibit.result == zoo.CAPTION else exhibit.result in entry.get("error", "")


def test_each_file_gets_a_caption_or_a_one_line_error(folder, tmp_path):
    done = caption(folder, "--jsonl", str(tmp_path / "captions.jsonl"))
    entries = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    by_name = {os.fsencode(entry["path"]): entry for entry in entries}
    exhibits = zoo.exhibits()
    wrong = {one.name: by_name.get(one.name) for one in exhibits if not has_expected_result(one, by_name[one.name])}
    assert not wrong
    assert len(entries) == len(exhibits)
    failed = sum("error" in entry for entry in entries)
    errors = [line for line in done.stderr.decode().splitlines() if line.startswith("warning: '")]
    assert len(errors) == failed == sum(exhibit.result != zoo.CAPTION for exhibit in exhibits)
    orientations = {entry["caption"] for name, entry in by_name.items() if name.startswith(b"orientation")}
    assert len(orientations) == 1


def test_printed_captions_are_one_line_each(folder):
    lines = caption(folder).stdout.decode().splitlines()
    assert len(lines) == sum(exhibit.result == zoo.CAPTION for exhibit in zoo.exhibits())
    assert all(line.count("\t") == 1 for line in lines)


def test_sidecars_tables_and_annotated_images_are_written_for_all_names(folder, tmp_path):
    copy = tmp_path / "copy"
    zoo.make(copy)
    drawings = ("--annotate", str(tmp_path / "titled"), "--attention", str(tmp_path / "maps"))
    caption(copy, "--sidecar", "--csv", str(tmp_path / "captions.csv"), *drawings)
    captioned = [exhibit.name for exhibit in zoo.exhibits() if exhibit.result == zoo.CAPTION]
    assert len(list((tmp_path / "maps").iterdir())) == len(captioned)
    sidecars = {os.fsencode(path.relative_to(copy).with_suffix("")) for path in copy.rglob("*.txt")}
    assert sidecars == {name.rpartition(b".")[0] for name in captioned}
    with open(tmp_path / "captions.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert {os.fsencode(row["path"]) for row in rows} == {exhibit.name for exhibit in zoo.exhibits()}
    assert all(bool(row["caption"]) != bool(row["error"]) for row in rows)
    before = (tmp_path / "captions.csv").read_bytes()
    again = caption(copy, "--sidecar", "--csv", str(tmp_path / "captions.csv"))
    assert f"{len(captioned)} of {len(rows)} images".encode() in again.stderr
    assert (tmp_path / "captions.csv").read_bytes() == before


def test_server_returns_a_caption_or_a_one_line_error(folder, serve):
    address, process = serve()
    for exhibit in zoo.exhibits():
        path = folder / os.fsdecode(exhibit.name)
        if not path.is_file():
            continue
        name = exhibit.name.replace(b'"', b"%22").replace(b"\n", b"%0A").replace(b"\r", b"%0D")
        head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="' + name + b'"\r\n\r\n'
        body = head + path.read_bytes() + b"\r\n--b--\r\n"
        content_type = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = httpx.post(f"{address}/v1/captions", content=body, headers=content_type, timeout=60)
        (entry,) = answer.json()["captions"]
        if exhibit.result == zoo.CAPTION:
            assert answer.status_code == 200 and entry["caption"], (exhibit.name, answer.text)
        else:
            assert answer.status_code == 422 and entry["error"], (exhibit.name, answer.text)
            assert "\n" not in answer.json()["error"]
    process.terminate()
    assert process.stderr.read() == ""


@pytest.mark.skipif(not (features.check("avif") and find_spec("pillow_heif")), reason="an image decoder is missing")
def test_table_in_the_documentation_is_current():
    assert zoo.table() in (ROOT / "docs" / "reliability.md").read_text()
