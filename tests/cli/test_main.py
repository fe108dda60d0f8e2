"""Help, errors and exit statuses of the command line."""

import pytest
from helpers import EXAMPLES

PHOTO = EXAMPLES / "000000126107.jpg"


def test_errors_are_one_line_for_any_file_name(showtell, tmp_path):
    (tmp_path / "a\nb.jpg").write_bytes(PHOTO.read_bytes())
    (tmp_path / "a\nb.txt").mkdir()
    cases = [
        (["--sidecar", "--overwrite"], 2, "warning: {0}/a\\nb.txt: Is a directory"),
        (["--model", "a\nb.zip"], 2, "error: a\\nb.zip: no such bundle"),
        (["--csv", tmp_path / "a\nb.txt"], 2, "error: {0}/a\\nb.txt: not a file"),
    ]
    for options, status, line in cases:
        done = showtell("caption", tmp_path, *options, status=status)
        assert done.stderr.startswith(line.format(tmp_path)) and "b.txt" not in done.stderr.split("\n", 1)[1]


def test_an_empty_argument_is_refused_before_anything_is_read(showtell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").write_bytes(PHOTO.read_bytes())
    for arguments, option in [
        (["caption", ""], ""),
        (["caption", "a.jpg", ""], ""),
        (["caption", "a.jpg", "--jsonl", ""], ": --jsonl"),
        (["prepare", "-o", ""], ": -o"),
        (["alt-text", "", "--write"], ""),
        (["evaluate", "default", "--images="], ": --images"),
        (["serve", "--host", ""], ": --host"),
        (["train", "-o", "run", "--word-vectors", ""], ": --word-vectors"),
    ]:
        done = showtell(*arguments, status=2)
        assert (
            done.stderr == f"error: an argument is empty{option}; check the variables in the command\n"
            and done.stdout == ""
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["caption", PHOTO, "--model", "nowhere"], "no such bundle"),
        (["caption", PHOTO, "--beam-size", 0], "beam_size must be 1 to 200"),
        (["caption", PHOTO, "--beam-size", 2, "--n-best", 3], "n_best must be at most beam_size (2), not 3"),
        (["caption", PHOTO, "--jsonl", "out", "--csv", "./out"], "--jsonl and --csv are the same file, out"),
        (["caption", PHOTO, "--spreadsheet-safe"], "--spreadsheet-safe has no effect without --csv"),
        (["caption", PHOTO, "--n-best", 2, "--csv", "out"], "--csv and --sidecar hold one caption per image"),
        (["caption", "https://example.org/a.jpg"], "https://example.org/a.jpg: URLs, .tar and"),
        (["info", "nowhere"], "no such bundle"),
        (["info", EXAMPLES], "bundle.json is missing; pass the output of `showtell export`"),
        (["prepare", "-o", "c.h5"], "--captions"),
        (["prepare", "-o", "c.h5", "--captions", "nowhere.json"], "nowhere.json"),
        (["prepare", "-o", "."], "must end in .h5"),
        (["prepare", "-o", "c.h5", "--max-length", 10**9], "max_length is 1000000000; it must be 3 to 1,002"),
        (["prepare", "-o", "c.h5", "--vocabulary-size", 10**9], "vocabulary_size is 1000000000; it must be"),
        (["prepare", "-o", "c.h5", "--min-count", 10**30], "it must be greater than 0 and at most 1,000,000,000"),
        (["train", "-o", "run", "--units", 10**9], "units is 1000000000; it must be greater than 0 and at most"),
        (["train", "-o", "run", "--learning-rate", "nan"], "learning_rate is nan"),
        (["train", "-o", "run", "--seed", 2**32], "seed is 4294967296; it must be 0 to 4,294,967,295"),
        (["caption", PHOTO, "--forbid", "\udcff"], "'?' is not"),
        (["extract", "nowhere", "-o", "f.npy"], "no such folder, or no images in it"),
        (["extract", EXAMPLES, "-o", "f.npy", "--encoder", "vgg"], "unknown encoder 'vgg'"),
        (["extract", EXAMPLES, "-o", "f.bin"], "must end in .npy"),
        (["train", "-o", "run"], "--captions"),
        (["train", "-o", "run", "--resume"], "not a training run"),
        (["train", "-o", "run", "--recipe", "nowhere.toml"], "cannot read the recipe"),
        (["export", "nowhere", "-o", "bundle"], "not a training run"),
        (
            ["calibrate", "b", "-o", "c", "--captions", "c.csv", "--images", EXAMPLES, "--report", "q.png"],
            "q.png: the report is an SVG image; use a name that ends in .svg",
        ),
        (["evaluate", "nowhere", "--captions", "c.csv", "--images", EXAMPLES], "no such bundle"),
    ],
)
def test_user_errors_are_one_line_with_status_2(showtell, tmp_path, monkeypatch, arguments, reason):
    monkeypatch.chdir(tmp_path)
    done = showtell(*arguments, status=2)
    assert reason in done.stderr and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert done.stdout == "" and list(tmp_path.iterdir()) == []


def test_help_shows_defaults(showtell):
    wide = {"COLUMNS": "300", "NO_COLOR": "1"}
    assert "Beam width. [default: (from the bundle)]" in showtell("caption", "--help", environment=wide).stdout
    assert "Name of a Keras optimizer. [default: (adam)]" in showtell("train", "--help", environment=wide).stdout
