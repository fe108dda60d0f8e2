"""The outputs of `showtell caption`: files, standard output, resuming and interruptions."""

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
from functools import partial

import pytest
from helpers import EXAMPLES, leave_temporary_file

from showtell.inference.bundle import Bundle


@pytest.fixture
def command(looking_bundle, noise_images):
    """The start of a command that captions twelve images. One of them is broken."""
    (noise_images / "05.png").write_bytes(b"no")
    return ["caption", noise_images, "--model", looking_bundle]


def read_json_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def run_with_input(text, *arguments):
    command = [sys.executable, "-m", "showtell", *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)


def test_a_second_run_resumes_and_overwrites_nothing(showtell, command, noise_images, tmp_path):
    lines, table = tmp_path / "new" / "captions.jsonl", tmp_path / "captions.csv"
    (noise_images / "03.txt").write_text("my own words")
    command = [*command, "--recursive", "--jsonl", lines, "--csv", table, "--sidecar"]
    first = showtell(*command, status=1)
    assert first.stdout == "" and "warning: 1 of 12 images could not be captioned\n" in first.stderr
    assert "captioning: 12 of 12" in first.stderr
    assert [record["path"] for record in read_json_lines(lines)] == [
        str(noise_images / f"{n:02}.png") for n in range(12)
    ]
    assert [record.get("caption") for record in read_json_lines(lines)] == ["a dog"] * 5 + [None] + ["a dog"] * 6
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["caption"] for row in rows] == ["a dog"] * 5 + [""] + ["a dog"] * 6
    assert rows[5]["error"] == read_json_lines(lines)[5]["error"] and "05.png" in rows[5]["error"]
    sidecars = {path.name: path.read_text() for path in noise_images.glob("*.txt")}
    assert sidecars == {**{f"{n:02}.txt": "a dog\n" for n in range(12) if n != 5}, "03.txt": "my own words"}

    contents = lines.read_bytes(), table.read_bytes()
    second = showtell(*command, status=1)
    assert "skipped 11 of 12 images: already captioned" in second.stderr and "05.png" in second.stderr
    (noise_images / "05.png").write_bytes((noise_images / "06.png").read_bytes())
    assert (lines.read_bytes(), table.read_bytes()) == contents
    showtell(*command)
    last = showtell(*command, "--json")
    assert "skipped 12 of 12 images" in last.stderr and json.loads(last.stdout) == []
    assert len(read_json_lines(lines)) == 13 and (noise_images / "05.txt").read_text() == "a dog\n"

    (noise_images / "04.txt").write_text("my better words")
    replaced = showtell(*command, "--overwrite")
    assert len(read_json_lines(lines)) == 12
    assert "warning: kept 2 sidecar files that showtell did not write or that were edited" in replaced.stderr
    assert [(noise_images / name).read_text() for name in ("03.txt", "04.txt", "05.txt")] == [
        *("my own words", "my better words", "a dog\n")
    ]


def test_an_incomplete_last_line_is_removed_and_reported(showtell, command, tmp_path):
    lines = tmp_path / "captions.jsonl"
    showtell(*command, "--jsonl", lines, status=1)
    content = lines.read_bytes()
    lines.write_bytes(content[: len(content) * 2 // 3])
    resumed = showtell(*command, "--jsonl", lines, status=1)
    assert lines.read_bytes() == content
    assert f"warning: {lines}: removed an incomplete last line left by an interrupted run" in resumed.stderr
    lines.write_text("my notes\n")
    rejected = showtell(*command, "--jsonl", lines, status=2)
    assert rejected.stderr.count("\n") == 1 and lines.read_text() == "my notes\n"


def test_ctrl_c_completes_images_in_progress_and_prints_the_command_that_resumes(looking_bundle, tmp_path):
    folder = tmp_path / "my photos"
    folder.mkdir()
    photo = (EXAMPLES / "000000126107.jpg").read_bytes()
    for number in range(3000):
        (folder / f"{number:04}.jpg").write_bytes(photo)
    lines = tmp_path / "captions.jsonl"
    arguments = ["caption", str(folder), "--model", str(looking_bundle), "--jsonl", str(lines)]
    process = subprocess.Popen(
        [sys.executable, "-m", "showtell", *arguments, "--overwrite"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background processes with SIGINT ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    while not lines.exists() or lines.read_bytes().count(b"\n") < 20:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    done = len(read_json_lines(lines))
    assert process.returncode == 130 and 20 <= done < 3000 and "Traceback" not in errors
    assert "press Ctrl-C again to stop immediately" in errors
    (hint,) = re.findall(r"stopped after (\d+) of 3000 images; resume with: showtell (.*)", errors)
    assert int(hint[0]) == done and shlex.split(hint[1]) == arguments
    for path in sorted(folder.iterdir())[done + 20 :]:
        path.unlink()
    resumed = run_with_input("", *shlex.split(hint[1]))
    assert resumed.returncode == 0 and f"skipped {done} of {done + 20} images" in resumed.stderr
    assert [record["path"] for record in read_json_lines(lines)] == sorted(map(str, folder.iterdir()))


def test_a_terminal_shows_a_progress_bar_and_whole_file_names(command, noise_images):
    ours, theirs = pty.openpty()
    arguments = [sys.executable, "-m", "showtell", *map(str, command), "--json"]
    done = subprocess.run(
        arguments, stdout=subprocess.PIPE, stderr=theirs, timeout=60, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    screen = b""
    try:
        while part := os.read(ours, 65536):
            screen += part
    except OSError:  # Linux reports the closed end of the terminal as an error
        pass
    os.close(ours)
    assert b"12/12" in screen and b"images/s" in screen and os.fsencode(noise_images / "05.png") in screen
    assert done.returncode == 1 and len(json.loads(done.stdout)) == 12


def test_paths_are_read_from_standard_input(noise_images, looking_bundle):
    arguments = ["caption", "-", "--model", looking_bundle]
    names = [str(noise_images / "00.png"), str(noise_images / "01.png")]
    for separator in ("\n", "\r\n", "\0"):
        done = run_with_input(separator.join([*names, ""]), *arguments)
        assert done.stdout == "".join(f"{name}\ta dog\n" for name in names), done.stderr
    done = run_with_input("", *arguments)
    assert done.returncode == 2 and done.stderr == "error: no paths on standard input\n"


def test_subfolders_are_searched_by_default(showtell, command, noise_images):
    (noise_images / "05.png").unlink()
    (noise_images / "sub").mkdir()
    (noise_images / "00.png").rename(noise_images / "sub" / "00.png")
    assert len(showtell(*command).stdout.splitlines()) == 11
    assert len(showtell(*command, "--no-recursive").stdout.splitlines()) == 10


def test_an_unwritable_sidecar_file_fails_only_its_image(showtell, command, noise_images):
    (noise_images / "05.png").unlink()
    (noise_images / "03.jpg").write_bytes((noise_images / "03.png").read_bytes())
    done = showtell(*command, "--sidecar", "--json", status=1)
    failed = [record for record in json.loads(done.stdout) if "error" in record]
    assert [record["path"] for record in failed] == [str(noise_images / "03.png")]
    assert f"warning: {failed[0]['error']}" in done.stderr.splitlines()


def test_overwrite_changes_nothing_if_no_image_can_be_captioned(showtell, looking_bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    lines = tmp_path / "captions.jsonl"
    lines.write_text('{"path": "a.jpg", "caption": "my own words"}\n')
    bundle = Bundle.load(looking_bundle)
    replace(bundle, files={**bundle.files, "encoder.onnx": b"no"}).save(tmp_path / "broken")
    for arguments in (["https://a.org/b.jpg"], [tmp_path / "empty"], [EXAMPLES, "--model", tmp_path / "broken"]):
        showtell("caption", *arguments, "--jsonl", lines, "--overwrite", status=2)
        assert "my own words" in lines.read_text()


def test_a_file_name_that_is_too_long_is_an_error_on_one_line(showtell, command, noise_images):
    done = showtell("caption", noise_images / "00.png", "n" * 300, *command[2:], status=1)
    assert done.stdout.count("\n") == 1 and "File name too long" in done.stderr


def test_length_limits_and_forbidden_words_are_applied(showtell, looking_bundle, night_image):
    command = ["caption", night_image, "--model", looking_bundle]
    assert showtell(*command, "--forbid", "Dog").stdout == "a\n"
    assert showtell(*command, "--max-words", 1).stdout == "dog\n"  # "a" would be truncated
    assert len(showtell(*command, "--min-words", 4).stdout.split()) >= 4
    for arguments, message in [
        (["--forbid", "zebra"], "'zebra' is not among the 6 words"),
        (["--forbid", "a dog"], "'a dog' is not a single word"),
        (["--forbid", "<end>"], "'<end>' is not among"),
        (["--max-words", 0], "max_length must be 1 to 1000"),
        (["--min-words", 3, "--max-words", 2], "--min-words 3 is larger than --max-words 2"),
    ]:
        done = showtell(*command, *arguments, status=2)
        assert message in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""


def test_an_image_with_the_longest_possible_name_gets_a_sidecar_file(showtell, looking_bundle, noise_images):
    longest = noise_images / f"{'n' * 251}.png"
    (noise_images / "00.png").rename(longest)
    showtell("caption", longest, "--model", looking_bundle, "--sidecar")
    assert longest.with_suffix(".txt").read_text() == "a dog\n"


def test_temporary_files_of_a_killed_process_are_ignored_and_removed(showtell, command, noise_images, tmp_path):
    (noise_images / "05.png").unlink()
    leave_temporary_file(noise_images / "00.png")
    lines = tmp_path / "captions.jsonl"
    showtell(*command, "--jsonl", lines)
    assert len(read_json_lines(lines)) == 11
    assert all(record["caption"] == "a dog" for record in read_json_lines(lines))
    assert list(noise_images.glob(".00.*"))
    showtell(*command, "--jsonl", lines, "--sidecar")
    assert not list(noise_images.glob(".00.*"))
    assert sorted(path.name for path in noise_images.glob("[!.]*.txt")) == [f"{n:02}.txt" for n in range(12) if n != 5]


def test_a_spreadsheet_safe_table_is_resumed(showtell, command, noise_images, tmp_path, monkeypatch):
    (noise_images / "00.png").rename(noise_images / "=1+1.png")
    monkeypatch.chdir(noise_images)
    table = tmp_path / "captions.csv"
    command = ["caption", "=1+1.png", "--model", command[-1], "--csv", table, "--spreadsheet-safe"]
    showtell(*command)
    assert table.read_text().splitlines()[1].startswith('"\'=1+1.png","a dog",')
    assert "skipped 1 of 1 image" in showtell(*command).stderr


def test_a_caption_that_needs_review_is_printed_instead_of_written_to_a_sidecar_file(showtell, tmp_path):
    for name in ("000000126107.jpg", "000000129648.jpg"):
        (tmp_path / name).write_bytes((EXAMPLES / name).read_bytes())
    done = showtell("caption", tmp_path, "--sidecar", "--min-confidence", 0.5)
    (line,) = done.stdout.splitlines()
    assert "000000126107.jpg\t" in line and line.endswith("\tneeds review")
    assert "review needed for 1 of 2 captions: confidence below 0.5" in done.stderr
    assert [path.name for path in tmp_path.glob("*.txt")] == ["000000129648.txt"]
