"""The commands caption and info."""

import json

from helpers import EXAMPLES
from PIL import Image

PHOTO = EXAMPLES / "000000126107.jpg"


def test_one_image_prints_one_caption(showtell):
    done = showtell("caption", PHOTO)
    (line,) = done.stdout.splitlines()
    assert len(line.split()) > 3 and done.stderr == ""


def test_a_folder_prints_paths_and_captions_and_writes_annotated_images(showtell, tmp_path):
    done = showtell("caption", EXAMPLES, "--annotate", tmp_path / "out")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [path for path, _ in lines] == [str(path) for path in sorted(EXAMPLES.glob("*.jpg"))]
    assert len({caption for _, caption in lines}) > 2
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {path.name for path in EXAMPLES.glob("*.jpg")} | {"contact-sheet.jpg"}


def test_annotate_needs_an_empty_folder(showtell, tmp_path):
    (tmp_path / "a.jpg").write_bytes(PHOTO.read_bytes())
    done = showtell("caption", PHOTO, "--annotate", tmp_path, status=2)
    assert "choose a new folder" in done.stderr and done.stdout == ""
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [PHOTO.read_bytes()]


def test_attention_maps_are_drawn_for_every_image(showtell, tmp_path, looking_bundle, night_image):
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


def test_attention_maps_need_a_model_with_attention(showtell, tmp_path, blind_bundle):
    done = showtell("caption", PHOTO, "--model", blind_bundle, "--attention", tmp_path / "maps", status=2)
    assert done.stderr == "error: --attention needs a model with attention; choose another one with --model\n"
    assert done.stdout == "" and not (tmp_path / "maps").exists()


def test_json_contains_captions_and_errors(showtell, tmp_path):
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


def test_n_best_captions_are_sorted_by_score(showtell):
    (record,) = json.loads(showtell("caption", PHOTO, "--n-best", 5, "--json").stdout)
    scores = [caption["score"] for caption in record["captions"]]
    assert len(scores) == 5 and scores == sorted(scores, reverse=True)
    assert record["captions"][0]["caption"] == record["caption"]
    assert all(caption["log_prob"] < caption["score"] < 0 for caption in record["captions"])
    assert len({caption["caption"] for caption in record["captions"]}) == 5


def test_strategy_chooses_greedy_search_or_sampling(showtell):
    greedy = {showtell("caption", PHOTO, "--strategy", "greedy").stdout for _ in range(2)}
    assert greedy == {showtell("caption", PHOTO, "--beam-size", 1).stdout}
    samples = showtell("caption", PHOTO, "--strategy", "sample", "--n-best", 8).stdout.splitlines()
    assert len(set(samples)) > 1


def test_confidence_with_other_search_options_logs_a_warning(showtell):
    for same in (["--n-best", 3], ["--beam-size", 3], ["--strategy", "beam"]):
        assert "warning:" not in showtell("caption", PHOTO, "--min-confidence", 0.5, *same).stderr
    for other in (["--n-best", 4], ["--beam-size", 2], ["--strategy", "greedy"]):
        assert (
            "warning: the confidence is calibrated" in showtell("caption", PHOTO, "--min-confidence", 0, *other).stderr
        )
        assert "warning:" not in showtell("caption", PHOTO, *other).stderr


def test_control_characters_in_paths_are_escaped(showtell, tmp_path):
    strange = tmp_path / "a\nb\tc.jpg"
    strange.write_bytes(PHOTO.read_bytes())
    (tmp_path / "plain.jpg").write_bytes(PHOTO.read_bytes())
    lines = showtell("caption", tmp_path).stdout.splitlines()
    assert len(lines) == 2 and lines[0].split("\t")[0].endswith("a\\nb\\tc.jpg")


def test_characters_outside_the_terminal_encoding_are_escaped(showtell, tmp_path):
    for name in ("\N{DOG FACE}.jpg", "plain.jpg"):
        (tmp_path / name).write_bytes(PHOTO.read_bytes())
    for encoding in ("ascii", "latin-1"):
        lines = showtell("caption", tmp_path, environment={"PYTHONIOENCODING": encoding}).stdout.splitlines()
        assert [line.split("\t")[0] for line in lines] == [f"{tmp_path}/plain.jpg", f"{tmp_path}/\\U0001f436.jpg"]


def test_an_ensemble_of_one_model_twice_equals_the_model(showtell):
    from showtell.inference.bundle import DEFAULT_BUNDLE

    twice = showtell("caption", EXAMPLES, "--model", DEFAULT_BUNDLE, "--model", DEFAULT_BUNDLE)
    assert twice.stdout == showtell("caption", EXAMPLES).stdout


def test_camera_raw_files_in_a_folder_are_skipped_with_one_warning(showtell, tmp_path):
    for name in ("a.cr2", "b.NEF"):
        (tmp_path / name).write_bytes(b"raw")
    (tmp_path / "a.jpg").write_bytes(PHOTO.read_bytes())
    done = showtell("caption", tmp_path)
    assert done.stdout.count("\n") == 1
    assert done.stderr == "warning: skipped 2 camera RAW files; export RAW files as JPEG first\n"
    named = showtell("caption", tmp_path / "a.cr2", status=2).stderr
    assert "a.cr2'" in named and "skipped" not in named


def test_info_describes_the_shipped_bundle(showtell):
    output = showtell("info").stdout
    assert "efficientnet_lite2" in output and "show_attend_tell" in output and "int8" in output and "cider" in output
    assert "attention\tyes, over 49 grid cells\n" in output and "license\tFlickr8k: " in output
