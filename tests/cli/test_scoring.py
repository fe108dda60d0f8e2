"""The command evaluate."""

import json

from helpers import EXAMPLES

PHOTO = EXAMPLES / "000000126107.jpg"


def test_evaluate_prints_scores_and_writes_a_report(showtell, tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text("file_name,text\n" + "".join(f"{path.name},a photograph\n" for path in EXAMPLES.glob("*.jpg")))
    from showtell.inference.bundle import DEFAULT_BUNDLE

    arguments = ["evaluate", DEFAULT_BUNDLE, "--captions", table, "--images", EXAMPLES]
    assert (
        "no captions in split 'test'; available splits: train, val"
        in showtell(*arguments, "--split", "test", status=2).stderr
    )
    assert "images\t1" in showtell(*arguments).stdout  # the image that training would hold out for validation
    done = showtell(*arguments, "--split", "all")
    scores = dict(line.split("\t") for line in done.stdout.splitlines())
    assert scores["images"] == "6" and float(scores["CIDEr"]) < 10 and "warning:" in done.stderr
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
