import json
import shlex
import signal
import subprocess
import sys
import time

import pytest
from helpers import EXAMPLES
from PIL import Image

PHOTO = EXAMPLES / "000000126107.jpg"


def test_one_photograph_gives_one_sentence(showtell):
    done = showtell("caption", PHOTO)
    (line,) = done.stdout.splitlines()
    assert len(line.split()) > 3 and done.stderr == ""


def test_a_folder_gives_path_and_caption_and_pictures(showtell, tmp_path):
    done = showtell("caption", EXAMPLES, "--annotate", tmp_path / "out")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [path for path, _ in lines] == [str(path) for path in sorted(EXAMPLES.glob("*.jpg"))]
    assert len({caption for _, caption in lines}) > 2
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {path.name for path in EXAMPLES.glob("*.jpg")} | {"contact-sheet.jpg"}


def test_annotated_pictures_overwrite_nothing(showtell, tmp_path):
    (tmp_path / "a.jpg").write_bytes(PHOTO.read_bytes())
    done = showtell("caption", PHOTO, "--annotate", tmp_path, status=2)
    assert "choose a new folder" in done.stderr and done.stdout == ""
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [PHOTO.read_bytes()]


def test_attention_is_drawn_for_every_image(showtell, tmp_path, looking_bundle, night_image):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "night.jpg").write_bytes(PHOTO.read_bytes())
    (tmp_path / "more" / "broken.jpg").write_bytes(b"no")
    arguments = ["caption", night_image, tmp_path / "more", "--model", looking_bundle, "--attention", tmp_path / "maps"]
    done = showtell(*arguments, "--n-best", 2, "--annotate", tmp_path / "titled", status=1)
    assert done.stdout.splitlines()[0] == f"{night_image}\ta dog" and "broken.jpg" in done.stderr
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {"night.jpg", "night-2.jpg"}
    assert {path.name for path in (tmp_path / "titled").iterdir()} == {"night.jpg", "night-2.jpg", "contact-sheet.jpg"}
    with Image.open(tmp_path / "maps" / "night.jpg") as drawn, Image.open(tmp_path / "titled" / "night.jpg") as titled:
        assert drawn.width > 2 * titled.width
    refused = showtell(*arguments, status=2)
    assert "maps: exists and is not an empty folder" in refused.stderr and refused.stdout == ""


def test_attention_needs_a_model_that_has_it(showtell, tmp_path, blind_bundle):
    done = showtell("caption", PHOTO, "--model", blind_bundle, "--attention", tmp_path / "maps", status=2)
    assert done.stderr == "error: --attention needs a model with attention; choose another one with --model\n"
    assert done.stdout == "" and not (tmp_path / "maps").exists()


def test_json_holds_captions_and_errors_and_the_status_tells(showtell, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no")
    done = showtell("caption", PHOTO, tmp_path / "broken.jpg", tmp_path / "absent.jpg", "--json", status=1)
    good, broken, absent = json.loads(done.stdout)
    assert good.keys() == {"path", "caption", "confidence"} and broken.keys() == absent.keys() == {"path", "error"}
    assert "no such file" in absent["error"] and "2 of 3 images" in done.stderr
    assert json.loads(showtell("caption", tmp_path / "broken.jpg", "--json", status=2).stdout)[0].keys() == {
        "path",
        "error",
    }
    (tmp_path / "empty").mkdir()
    assert json.loads(showtell("caption", tmp_path / "empty", "--json", status=2).stdout) == []


def test_the_n_best_come_with_their_scores_in_order(showtell):
    (entry,) = json.loads(showtell("caption", PHOTO, "--n-best", 5, "--json").stdout)
    scores = [caption["score"] for caption in entry["captions"]]
    assert len(scores) == 5 and scores == sorted(scores, reverse=True)
    assert entry["captions"][0]["caption"] == entry["caption"]
    assert all(caption["log_prob"] < caption["score"] < 0 for caption in entry["captions"])
    assert len({caption["caption"] for caption in entry["captions"]}) == 5


def test_greedy_search_and_sampling(showtell):
    greedy = {showtell("caption", PHOTO, "--strategy", "greedy").stdout for _ in range(2)}
    assert greedy == {showtell("caption", PHOTO, "--beam-size", 1).stdout}
    samples = showtell("caption", PHOTO, "--strategy", "sample", "--n-best", 8).stdout.splitlines()
    assert len(set(samples)) > 1


def test_confidence_is_for_the_bundles_own_search_and_a_note_says_so(showtell):
    for same in (["--n-best", 3], ["--beam-size", 3], ["--strategy", "beam"]):
        assert "warning:" not in showtell("caption", PHOTO, "--min-confidence", 0.5, *same).stderr
    for other in (["--n-best", 4], ["--beam-size", 2], ["--strategy", "greedy"]):
        assert "warning: the confidence is calibrated" in showtell("caption", PHOTO, "--min-confidence", 0, *other).stderr
        assert "warning:" not in showtell("caption", PHOTO, *other).stderr


def test_names_that_would_break_a_line_are_escaped(showtell, tmp_path):
    strange = tmp_path / "a\nb\tc.jpg"
    strange.write_bytes(PHOTO.read_bytes())
    (tmp_path / "plain.jpg").write_bytes(PHOTO.read_bytes())
    lines = showtell("caption", tmp_path).stdout.splitlines()
    assert len(lines) == 2 and lines[0].split("\t")[0].endswith("a\\nb\\tc.jpg")


def test_what_a_terminal_cannot_show_is_escaped(showtell, tmp_path):
    for name in ("\N{DOG FACE}.jpg", "plain.jpg"):
        (tmp_path / name).write_bytes(PHOTO.read_bytes())
    for encoding in ("ascii", "latin-1"):
        lines = showtell("caption", tmp_path, environment={"PYTHONIOENCODING": encoding}).stdout.splitlines()
        assert [line.split("\t")[0] for line in lines] == [f"{tmp_path}/plain.jpg", f"{tmp_path}/\\U0001f436.jpg"]


def test_what_went_wrong_is_one_line_whatever_the_name(showtell, tmp_path):
    (tmp_path / "a\nb.jpg").write_bytes(PHOTO.read_bytes())
    (tmp_path / "a\nb.txt").mkdir()
    refused = [
        (["--sidecar", "--overwrite"], 2, "warning: {0}/a\\nb.txt: Is a directory"),
        (["--model", "a\nb.zip"], 2, "error: a\\nb.zip: no such bundle"),
        (["--csv", tmp_path / "a\nb.txt"], 2, "error: {0}/a\\nb.txt: not a file"),
    ]
    for options, status, line in refused:
        done = showtell("caption", tmp_path, *options, status=status)
        assert done.stderr.startswith(line.format(tmp_path)) and "b.txt" not in done.stderr.split("\n", 1)[1]


def test_an_ensemble_of_a_model_with_itself_says_what_the_model_says(showtell):
    from showtell.inference.bundle import DEFAULT_BUNDLE

    twice = showtell("caption", EXAMPLES, "--model", DEFAULT_BUNDLE, "--model", DEFAULT_BUNDLE)
    assert twice.stdout == showtell("caption", EXAMPLES).stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["caption", PHOTO, "--model", "nowhere"], "no such bundle"),
        (["caption", PHOTO, "--beam-size", 0], "beam_size must be 1 to 1000"),
        (["caption", PHOTO, "--beam-size", 2, "--n-best", 3], "n_best must be at most beam_size, 2, not 3"),
        (["caption", PHOTO, "--jsonl", "out", "--csv", "./out"], "--jsonl and --csv are the same file, out"),
        (["caption", PHOTO, "--n-best", 2, "--csv", "out"], "--csv and --sidecar hold one caption per image"),
        (["caption", "https://example.org/a.jpg"], "https://example.org/a.jpg: addresses, .tar and .parquet files need"),
        (["info", "nowhere"], "no such bundle"),
        (["info", EXAMPLES], "bundle.json is missing; name what showtell export has made"),
        (["prepare", "-o", "c.h5"], "--captions"),
        (["prepare", "-o", "c.h5", "--captions", "nowhere.json"], "nowhere.json"),
        (["extract", "nowhere", "-o", "f.npy"], "no folder with images"),
        (["extract", EXAMPLES, "-o", "f.npy", "--encoder", "vgg"], "unknown encoder 'vgg'"),
        (["extract", EXAMPLES, "-o", "f.bin"], "must end in .npy"),
        (["train", "-o", "run"], "--captions"),
        (["train", "-o", "run", "--resume"], "not a training run"),
        (["train", "-o", "run", "--recipe", "nowhere.toml"], "cannot read the recipe"),
        (["export", "nowhere", "-o", "bundle"], "not a training run"),
        (
            ["calibrate", "b", "-o", "c", "--captions", "c.csv", "--images", EXAMPLES, "--report", "q.png"],
            "q.png: the picture is an SVG; its name must end in .svg",
        ),
        (["evaluate", "nowhere", "--captions", "c.csv", "--images", EXAMPLES], "no such bundle"),
    ],
)
def test_mistakes_are_one_line_and_status_2(showtell, tmp_path, monkeypatch, arguments, reason):
    monkeypatch.chdir(tmp_path)
    done = showtell(*arguments, status=2)
    assert reason in done.stderr and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert done.stdout == "" and list(tmp_path.iterdir()) == []


def test_help_shows_what_holds_unless_one_says_otherwise(showtell):
    wide = {"COLUMNS": "300", "NO_COLOR": "1"}
    assert "Beam width. [default: (from the bundle)]" in showtell("caption", "--help", environment=wide).stdout
    assert "any optimizer of Keras, by name (adam)" in showtell("train", "--help", environment=wide).stdout


def test_camera_raw_in_a_folder_is_told_of_once(showtell, tmp_path):
    for name in ("a.cr2", "b.NEF"):
        (tmp_path / name).write_bytes(b"raw")
    (tmp_path / "a.jpg").write_bytes(PHOTO.read_bytes())
    done = showtell("caption", tmp_path)
    assert done.stdout.count("\n") == 1
    assert done.stderr == "warning: skipped 2 camera RAW files; export RAW files as JPEG first\n"
    named = showtell("caption", tmp_path / "a.cr2", status=2).stderr
    assert "a.cr2'" in named and "skipped" not in named


def test_info_tells_what_the_shipped_bundle_is(showtell):
    told = showtell("info").stdout
    assert "efficientnet_lite2" in told and "show_attend_tell" in told and "int8" in told and "cider" in told
    assert "attention\tyes, over 49 grid cells\n" in told and "license\tFlickr8k: " in told


def test_evaluate_explains_its_figures(showtell, tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text("file_name,text\n" + "".join(f"{path.name},a photograph\n" for path in EXAMPLES.glob("*.jpg")))
    from showtell.inference.bundle import DEFAULT_BUNDLE

    arguments = ["evaluate", DEFAULT_BUNDLE, "--captions", table, "--images", EXAMPLES]
    assert "no captions of split 'test'; it has train, val" in showtell(*arguments, "--split", "test", status=2).stderr
    assert "images\t1" in showtell(*arguments).stdout  # what would have been held out for validation
    done = showtell(*arguments, "--split", "all")
    scores = dict(line.split("\t") for line in done.stdout.splitlines())
    assert scores["images"] == "6" and float(scores["CIDEr"]) < 10 and "note:" in done.stderr
    assert "METEOR" not in scores

    report = tmp_path / "report"
    again = showtell(*arguments, "--split", "all", "-o", report, "--beam-size", 1)
    content = json.loads((report / "scores.json").read_text())
    assert f"CIDEr\t{content['scores']['CIDEr']:.2f}" in again.stdout
    assert content["settings"]["bundles"][0]["path"] == str(DEFAULT_BUNDLE)
    assert content["settings"]["search"]["beam_size"] == 1 and content["settings"]["split"] == "all"
    assert {path.name for path in report.iterdir()} == {"scores.json", "best-median-worst.jpg"}
    refused = showtell(*arguments, "--split", "all", "-o", report, status=2)
    assert "choose a new folder for the report" in refused.stderr and refused.stdout == ""
    without = showtell(*arguments, "--split", "all", "--meteor", environment={"PATH": str(tmp_path)}, status=2)
    assert "METEOR needs" in without.stderr and len(without.stderr.splitlines()) == 1


def test_prepare_prints_a_summary(showtell, tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text("file_name,text,split\na.jpg,a dog,train\nb.jpg,a cat,val\n")
    done = showtell("prepare", "--captions", table, "-o", tmp_path / "captions.h5")
    assert "vocabulary: 6 words" in done.stdout and "val: 1 images, 1 captions, 50.00% of words unknown" in done.stdout
    assert (tmp_path / "captions_vocab.json").exists()
    missing = showtell("prepare", "--captions", table, "--images", EXAMPLES, "-o", tmp_path / "d.h5", status=2)
    assert "2 of 2 captioned images are not in" in missing.stderr
    table.write_text("path,caption\nexamples/000000126107.jpg,a dog\n")
    above = showtell("prepare", "--captions", table, "--images", EXAMPLES, "-o", tmp_path / "d.h5", status=2)
    assert f"names begin with examples/, so name the folder that it is in: {EXAMPLES.parent}\n" in above.stderr
    showtell("prepare", "--captions", table, "--images", EXAMPLES.parent, "-o", tmp_path / "d.h5")


def test_extract_names_what_it_cannot_read_and_goes_on(showtell, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(PHOTO.read_bytes())
    (tmp_path / "images" / "b.jpg").write_bytes(b"broken")
    done = showtell("extract", tmp_path / "images", "-o", tmp_path / "f.npy", status=1)
    assert "features of 1 image, 1 x 1280 each" in done.stdout and "b.jpg" in done.stderr


def test_ctrl_c_while_extracting_keeps_what_is_done_and_tells_how_to_go_on(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(1000):
        (tmp_path / "images" / f"{number:04}.jpg").symlink_to(PHOTO)
    arguments = ["extract", str(tmp_path / "images"), "-o", str(tmp_path / "my features.npy")]
    process = subprocess.Popen([sys.executable, "-m", "showtell", *arguments], stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob("*.partial*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said
    assert said.splitlines()[-1] == f"error: stopped; resume with: {shlex.join(['showtell', *arguments])}"
    assert list(tmp_path.glob("*.partial*"))
