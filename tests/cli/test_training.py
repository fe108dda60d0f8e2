"""The commands prepare and extract."""

import shlex
import signal
import subprocess
import sys
import time
from functools import partial

from helpers import EXAMPLES

PHOTO = EXAMPLES / "000000126107.jpg"


def test_prepare_prints_a_summary(showtell, tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text("file_name,text,split\na.jpg,a dog,train\nb.jpg,a cat,val\n")
    done = showtell("prepare", "--captions", table, "-o", tmp_path / "captions.h5")
    assert "vocabulary: 6 words" in done.stdout and "val: 1 images, 1 captions, 50.00% of words unknown" in done.stdout
    assert (tmp_path / "captions_vocab.json").exists()
    missing = showtell("prepare", "--captions", table, "--images", EXAMPLES, "-o", tmp_path / "d.h5", status=2)
    assert "2 of 2 captioned images are not in" in missing.stderr
    table.write_text("path,caption\nexamples/000000126107.jpg,a dog\n")
    parent = showtell("prepare", "--captions", table, "--images", EXAMPLES, "-o", tmp_path / "d.h5", status=2)
    assert f"names start with examples/, so pass its parent folder: {EXAMPLES.parent}\n" in parent.stderr
    showtell("prepare", "--captions", table, "--images", EXAMPLES.parent, "-o", tmp_path / "d.h5")


def test_extract_skips_unreadable_images(showtell, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(PHOTO.read_bytes())
    (tmp_path / "images" / "b.jpg").write_bytes(b"broken")
    done = showtell("extract", tmp_path / "images", "-o", tmp_path / "f.npy", status=1)
    assert "features of 1 image, 1 x 1280 each" in done.stdout and "b.jpg" in done.stderr


def test_ctrl_c_during_extract_prints_the_command_that_resumes_it(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(1000):
        (tmp_path / "images" / f"{number:04}.jpg").symlink_to(PHOTO)
    arguments = ["extract", str(tmp_path / "images"), "-o", str(tmp_path / "my features.npy")]
    process = subprocess.Popen(
        [sys.executable, "-m", "showtell", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background processes with SIGINT ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and not list(tmp_path.glob("*.partial*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert errors.splitlines()[-1] == f"error: stopped; resume with: {shlex.join(['showtell', *arguments])}"
    assert list(tmp_path.glob("*.partial*"))
