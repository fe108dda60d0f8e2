import csv
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from helpers import EXAMPLES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from showtell.errors import CaptionFileError, ConfigurationError
from showtell.inference.bundle import Bundle
from showtell.outputs.files import JsonLines, Sidecars, Table

ENTRIES = [
    {"path": "a.jpg", "caption": 'a "dog", running', "confidence": 0.25, "needs_review": True},
    {"path": "b\n,c.jpg", "error": "'b': no such file"},
    {"path": "d\udcff.jpg", "caption": "two\ncats"},
    {"path": "é.jpg", "caption": "ein Hund läuft"},
]


@pytest.fixture
def dogs(looking_bundle, noise_images):
    """The beginning of a command that captions twelve images, one of them broken."""
    (noise_images / "05.png").write_bytes(b"no")
    return ["caption", noise_images, "--model", looking_bundle]


def objects(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", [JsonLines, Table])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_cut_anywhere_is_mended_and_completed(kind, tmp_path, data):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for entry in ENTRIES:
        kind(whole).add(entry)
    content = whole.read_bytes()
    # A path with a line break in it is whole or not at all: it is written by one call.
    place = data.draw(st.integers(0, len(content)).filter(lambda place: b'"b\n' not in content[:place][-60:]))
    cut.write_bytes(content[:place])
    output = kind(cut)
    assert content[:place].endswith(b"\n") <= (output.incomplete_line == b"")
    for entry in ENTRIES:
        output.add(entry)
    assert cut.read_bytes() == content
    again = kind(cut)
    assert [again.has(entry["path"]) for entry in ENTRIES] == [True, False, True, True]
    for entry in ENTRIES:
        again.add({**entry, **({"caption": "else"} if "caption" in entry else {})})
    assert cut.read_bytes() == content and again.incomplete_line == b""
    cut.unlink()
    whole.unlink()


def test_an_error_that_is_mended_gets_a_line_that_counts(tmp_path):
    for kind in (JsonLines, Table):
        path = tmp_path / kind.__name__
        kind(path).add({"path": "a.jpg", "error": "broken"})
        kind(path).add({"path": "a.jpg", "caption": "a dog"})
        assert kind(path).has("a.jpg") and path.read_text().count("a.jpg") == 2
        assert not kind(path, overwrite=True).has("a.jpg") and "a.jpg" not in path.read_text()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (JsonLines, b"my notes"),
        (JsonLines, b'{"path": "a.jpg", "caption": "a dog"}\nmy notes\n'),
        (JsonLines, b'{"path": "a.jpg", "cap\n{"path": "b.jpg", "caption": "a dog"}\n'),
        (JsonLines, b'[{"path": "a.jpg"}]\n'),
        (JsonLines, b'{"file_name": "a.jpg"}\n'),
        (JsonLines, b"[" * 100_000),
        (JsonLines, b"\xff\xd8\xff\xe0"),
        (Table, b"my notes"),
        (Table, b"file_name,text\na.jpg,a dog\n"),
        (Table, b'path,caption\n"a.jpg,a dog\nb.jpg,a dog\nc.jpg,a dog\n'),
        (Table, b"\xff\xd8\xff\xe0"),
    ],
)
def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path, kind, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(CaptionFileError, match="name another file"):
        kind(path)
    assert path.read_bytes() == content
    with pytest.raises(ConfigurationError, match="not a file"):
        kind(tmp_path)


def test_a_table_that_a_person_has_edited_keeps_its_columns(tmp_path):
    path = tmp_path / "edited.csv"
    content = b'\xef\xbb\xbfcaption,path,notes\r\nmy own words,a.jpg,"so,\r\nso"\r\n,b.jpg,to do'
    path.write_bytes(content)
    table = Table(path)
    assert table.has("a.jpg") and not table.has("b.jpg")
    table.add({"path": "a.jpg", "caption": "a dog"})
    table.add({"path": "b.jpg", "caption": "a dog", "confidence": 0.5})
    assert path.read_bytes() == content + b"\na dog,b.jpg,\n"


def test_texts_beside_images(tmp_path):
    (tmp_path / "mine.txt").write_text("my own words\n")
    names = ["mine.jpg", "a.jpg", "a.png", "doubtful.jpg", "image.txt"]
    paths = {name: str(tmp_path / name) for name in names}
    texts = Sidecars(paths.values())
    assert [texts.has(path) for path in paths.values()] == [True, False, False, False, False]
    texts.add({"path": paths["mine.jpg"], "caption": "a dog"})
    texts.add({"path": paths["a.jpg"], "caption": "a dog"})
    texts.add({"path": paths["doubtful.jpg"], "caption": "a dog", "needs_review": True})
    with pytest.raises(ConfigurationError, match=r"its text would be 'a.txt', as that of .*a\.jpg'; rename"):
        texts.add({"path": paths["a.png"], "caption": "a cat"})
    with pytest.raises(ConfigurationError, match="rename"):
        texts.add({"path": paths["image.txt"], "caption": "a cat"})
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"mine.txt": "my own words\n", "a.txt": "a dog\n"}
    again = Sidecars(paths.values())
    assert [again.has(path) for path in paths.values()] == [True, True, False, False, False]
    anew = Sidecars(paths.values(), overwrite=True)
    assert not anew.has(paths["mine.jpg"])
    anew.add({"path": paths["mine.jpg"], "caption": "a dog"})
    assert (tmp_path / "mine.txt").read_text() == "a dog\n"


def test_a_second_run_goes_on_and_overwrites_nothing(showtell, dogs, noise_images, tmp_path):
    lines, table = tmp_path / "new" / "captions.jsonl", tmp_path / "captions.csv"
    (noise_images / "03.txt").write_text("my own words")
    command = [*dogs, "--recursive", "--jsonl", lines, "--csv", table, "--sidecar"]
    first = showtell(*command, status=1)
    assert first.stdout == "" and "1 of 12 images could not be captioned" in first.stderr
    assert "captioning: 12 of 12" in first.stderr
    assert [entry["path"] for entry in objects(lines)] == [str(noise_images / f"{n:02}.png") for n in range(12)]
    assert [entry.get("caption") for entry in objects(lines)] == ["a dog"] * 5 + [None] + ["a dog"] * 6
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["caption"] for row in rows] == ["a dog"] * 5 + [""] + ["a dog"] * 6
    assert rows[5]["error"] == objects(lines)[5]["error"] and "05.png" in rows[5]["error"]
    texts = {path.name: path.read_text() for path in noise_images.glob("*.txt")}
    assert texts == {**{f"{n:02}.txt": "a dog\n" for n in range(12) if n != 5}, "03.txt": "my own words"}

    kept = lines.read_bytes(), table.read_bytes()
    again = showtell(*command, status=1)
    assert "11 of 12 images have a caption already" in again.stderr and "05.png" in again.stderr
    (noise_images / "05.png").write_bytes((noise_images / "06.png").read_bytes())
    assert (lines.read_bytes(), table.read_bytes()) == kept
    showtell(*command)
    done = showtell(*command, "--json")
    assert "12 of 12 images have a caption already" in done.stderr and json.loads(done.stdout) == []
    assert len(objects(lines)) == 13 and (noise_images / "05.txt").read_text() == "a dog\n"

    showtell(*command, "--overwrite")
    assert len(objects(lines)) == 12 and (noise_images / "03.txt").read_text() == "a dog\n"


def test_killed_in_the_middle_of_a_line_the_next_run_mends_it(showtell, dogs, tmp_path):
    lines = tmp_path / "captions.jsonl"
    showtell(*dogs, "--jsonl", lines, status=1)
    content = lines.read_bytes()
    lines.write_bytes(content[: len(content) * 2 // 3])
    mended = showtell(*dogs, "--jsonl", lines, status=1)
    assert lines.read_bytes() == content and "half a line of a run that was killed is taken away" in mended.stderr
    lines.write_text("my notes\n")
    refused = showtell(*dogs, "--jsonl", lines, status=2)
    assert refused.stderr.count("\n") == 1 and lines.read_text() == "my notes\n"


def test_ctrl_c_writes_what_is_at_work_and_the_command_that_it_names_goes_on(looking_bundle, tmp_path):
    folder = tmp_path / "my photos"
    folder.mkdir()
    photo = (EXAMPLES / "000000126107.jpg").read_bytes()
    for number in range(3000):
        (folder / f"{number:04}.jpg").write_bytes(photo)
    lines = tmp_path / "captions.jsonl"
    arguments = ["caption", str(folder), "--model", str(looking_bundle), "--jsonl", str(lines)]
    running = subprocess.Popen(
        [sys.executable, "-m", "showtell", *arguments, "--overwrite"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not lines.exists() or lines.read_bytes().count(b"\n") < 20:
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    done = len(objects(lines))
    assert running.returncode == 130 and 20 <= done < 3000 and "Traceback" not in errors
    assert "Ctrl-C again stops at once" in errors
    (last,) = re.findall(r"stopped after (\d+) of 3000 images; go on with: showtell (.*)", errors)
    assert int(last[0]) == done and shlex.split(last[1]) == arguments
    for path in sorted(folder.iterdir())[done + 20 :]:
        path.unlink()
    went_on = subprocess.run(
        [sys.executable, "-m", "showtell", *shlex.split(last[1])], capture_output=True, text=True, timeout=60
    )
    assert went_on.returncode == 0 and f"{done} of {done + 20} images have a caption already" in went_on.stderr
    assert [entry["path"] for entry in objects(lines)] == sorted(map(str, folder.iterdir()))


def test_a_terminal_shows_a_bar_and_results_stay_out_of_it(dogs):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "showtell", *map(str, dogs), "--json"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=theirs, timeout=60, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    screen = b""
    try:
        while part := os.read(ours, 65536):
            screen += part
    except OSError:  # Linux tells so that nobody has the other end any more
        pass
    os.close(ours)
    assert b"12/12" in screen and b"images/s" in screen and b"05.png" in screen
    assert done.returncode == 1 and len(json.loads(done.stdout)) == 12


def test_paths_come_from_standard_input(dogs, noise_images, looking_bundle):
    command = [sys.executable, "-m", "showtell", "caption", "-", "--model", str(looking_bundle)]
    names = [str(noise_images / "00.png"), str(noise_images / "01.png")]
    for separator in ("\n", "\r\n", "\0"):
        given = separator.join([*names, ""])
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)
        assert done.stdout == "".join(f"{name}\ta dog\n" for name in names), done.stderr
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr == "error: no paths on standard input\n"


def test_folders_below_are_searched_unless_one_asks_otherwise(showtell, dogs, noise_images):
    (noise_images / "05.png").unlink()
    (noise_images / "sub").mkdir()
    (noise_images / "00.png").rename(noise_images / "sub" / "00.png")
    assert len(showtell(*dogs).stdout.splitlines()) == 11
    assert len(showtell(*dogs, "--no-recursive").stdout.splitlines()) == 10


def test_a_text_that_cannot_be_written_is_the_error_of_its_image_alone(showtell, dogs, noise_images, tmp_path):
    (noise_images / "05.png").unlink()
    (noise_images / "03.jpg").write_bytes((noise_images / "03.png").read_bytes())
    done = showtell(*dogs, "--sidecar", "--json", status=1)
    errors = [entry for entry in json.loads(done.stdout) if "error" in entry]
    assert [entry["path"] for entry in errors] == [str(noise_images / "03.png")]
    assert f"showtell: {errors[0]['error']}" in done.stderr.splitlines()


def test_overwrite_costs_nothing_where_nothing_can_be_done(showtell, looking_bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    lines = tmp_path / "captions.jsonl"
    lines.write_text('{"path": "a.jpg", "caption": "my own words"}\n')
    broken = Bundle.load(looking_bundle)
    replace(broken, files={**broken.files, "encoder.onnx": b"no"}).save(tmp_path / "broken")
    for arguments in (["https://a.org/b.jpg"], [tmp_path / "empty"], [EXAMPLES, "--model", tmp_path / "broken"]):
        showtell("caption", *arguments, "--jsonl", lines, "--overwrite", status=2)
        assert "my own words" in lines.read_text()


def test_a_name_that_cannot_be_is_one_line_among_captions(showtell, dogs, noise_images):
    done = showtell("caption", noise_images / "00.png", "n" * 300, *dogs[2:], status=1)
    assert done.stdout.count("\n") == 1 and "File name too long" in done.stderr


def test_words_can_be_limited_and_forbidden(showtell, looking_bundle, night_image):
    command = ["caption", night_image, "--model", looking_bundle]
    assert showtell(*command, "--forbid", "Dog").stdout == "a\n"
    assert showtell(*command, "--max-words", 1).stdout == "dog\n"  # "a" would be cut off
    assert len(showtell(*command, "--min-words", 4).stdout.split()) >= 4
    for arguments, why in [
        (["--forbid", "zebra"], "'zebra' is not among the 6 words that the model knows"),
        (["--forbid", "a dog"], "'a dog' is not one word; give one at a time"),
        (["--forbid", "<end>"], "'<end>' is not among"),
        (["--max-words", 0], "max_length must be 1 to 10000"),
        (["--min-words", 3, "--max-words", 2], "--min-words 3 is more than --max-words 2"),
    ]:
        done = showtell(*command, *arguments, status=2)
        assert why in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""


def test_an_image_with_the_longest_name_gets_a_text(showtell, looking_bundle, noise_images):
    longest = noise_images / f"{'n' * 251}.png"
    (noise_images / "00.png").rename(longest)
    showtell("caption", longest, "--model", looking_bundle, "--sidecar")
    assert longest.with_suffix(".txt").read_text() == "a dog\n"


def test_what_a_killed_process_leaves_is_taken_for_nothing(showtell, dogs, noise_images, tmp_path):
    (noise_images / "05.png").unlink()
    program = """
import os, signal, sys
from showtell.utils.files import written_whole

for name in ("00.txt", "00.png"):
    if os.fork() == 0:
        with written_whole(os.path.join(sys.argv[1], name)) as temporary:
            temporary.write_bytes(b"half a")
            os.kill(os.getpid(), signal.SIGKILL)
    os.wait()
"""
    subprocess.run([sys.executable, "-c", program, str(noise_images)], check=True)
    assert len(list(noise_images.glob(".00.*"))) == 2
    lines = tmp_path / "captions.jsonl"
    showtell(*dogs, "--sidecar", "--jsonl", lines)
    assert len(objects(lines)) == 11 and all(entry["caption"] == "a dog" for entry in objects(lines))
    assert sorted(path.name for path in noise_images.glob("[!.]*.txt")) == [f"{n:02}.txt" for n in range(12) if n != 5]


def test_what_needs_review_gets_no_text_but_a_line(showtell, tmp_path):
    for name in ("000000126107.jpg", "000000129648.jpg"):
        (tmp_path / name).write_bytes((EXAMPLES / name).read_bytes())
    done = showtell("caption", tmp_path, "--sidecar", "--min-confidence", 0.5)
    (line,) = done.stdout.splitlines()
    assert "000000126107.jpg\t" in line and line.endswith("\tneeds review")
    assert [path.name for path in tmp_path.glob("*.txt")] == ["000000129648.txt"]
