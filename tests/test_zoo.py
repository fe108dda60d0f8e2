"""Every file of the zoo gives a caption or one clear line, whatever captions are asked for."""

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
    """Run the command line there, with output in bytes, for not every name is text."""
    command = [sys.executable, "-m", "showtell", "caption", ".", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    return done


def is_as_expected(exhibit, entry):
    return "caption" in entry if exhibit.outcome == zoo.CAPTION else exhibit.outcome in entry.get("error", "")


def test_each_gets_a_caption_or_one_clear_line(folder, tmp_path):
    done = caption(folder, "--jsonl", str(tmp_path / "captions.jsonl"))
    entries = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    by_name = {os.fsencode(entry["path"]): entry for entry in entries}
    exhibits = zoo.exhibits()
    wrong = {each.name: by_name.get(each.name) for each in exhibits if not is_as_expected(each, by_name[each.name])}
    assert not wrong
    assert len(entries) == len(exhibits)
    failed = sum("error" in entry for entry in entries)
    told = [line for line in done.stderr.decode().splitlines() if line.startswith("warning: '")]
    assert len(told) == failed == sum(each.outcome != zoo.CAPTION for each in exhibits)
    turned = {entry["caption"] for name, entry in by_name.items() if name.startswith(b"orientation")}
    assert len(turned) == 1


def test_printed_captions_are_one_line_each(folder):
    lines = caption(folder).stdout.decode().splitlines()
    assert len(lines) == sum(each.outcome == zoo.CAPTION for each in zoo.exhibits())
    assert all(line.count("\t") == 1 for line in lines)


def test_texts_tables_and_pictures_cope_with_all_of_it(folder, tmp_path):
    copy = tmp_path / "copy"
    zoo.make(copy)
    pictures = ("--annotate", str(tmp_path / "titled"), "--attention", str(tmp_path / "maps"))
    caption(copy, "--sidecar", "--csv", str(tmp_path / "captions.csv"), *pictures)
    captioned = sum(each.outcome == zoo.CAPTION for each in zoo.exhibits())
    assert len(list((tmp_path / "maps").iterdir())) == captioned
    texts = {os.fsencode(path.relative_to(copy).with_suffix("")) for path in copy.rglob("*.txt")}
    assert texts == {each.name.rpartition(b".")[0] for each in zoo.exhibits() if each.outcome == zoo.CAPTION}
    with open(tmp_path / "captions.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert {os.fsencode(row["path"]) for row in rows} == {each.name for each in zoo.exhibits()}
    assert all(bool(row["caption"]) != bool(row["error"]) for row in rows)
    before = (tmp_path / "captions.csv").read_bytes()
    again = caption(copy, "--sidecar", "--csv", str(tmp_path / "captions.csv"))
    assert f"{captioned} of {len(rows)} images: already captioned".encode() in again.stderr
    assert (tmp_path / "captions.csv").read_bytes() == before


def test_the_server_gives_each_a_caption_or_one_clear_line(folder, serve):
    address, process = serve()
    for each in zoo.exhibits():
        path = folder / os.fsdecode(each.name)
        if not path.is_file():
            continue
        name = each.name.replace(b'"', b"%22").replace(b"\n", b"%0A").replace(b"\r", b"%0D")
        head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="' + name + b'"\r\n\r\n'
        body = head + path.read_bytes() + b"\r\n--b--\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = httpx.post(f"{address}/v1/captions", content=body, headers=kind, timeout=60)
        (entry,) = answer.json()["captions"]
        if each.outcome == zoo.CAPTION:
            assert answer.status_code == 200 and entry["caption"], (each.name, answer.text)
        else:
            assert answer.status_code == 422 and entry["error"], (each.name, answer.text)
            assert "\n" not in answer.json()["error"]
    process.terminate()
    assert process.stderr.read() == ""


@pytest.mark.skipif(not (features.check("avif") and find_spec("pillow_heif")), reason="a decoder is not there")
def test_the_table_in_the_documentation_is_of_this_zoo():
    assert zoo.table() in (ROOT / "docs" / "reliability.md").read_text()
