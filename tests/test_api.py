"""The public API: its names, its types, and a program that uses all of it."""

import copy
import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from helpers import EXAMPLES, ROOT

import showtell
from showtell import errors

CLIENT = ROOT / "tests" / "client.py"


def test_dir_lists_exactly_the_exported_names():
    assert dir(showtell) == sorted(showtell.__all__)
    assert all(getattr(showtell, name) is not None for name in showtell.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Caption_'"):
        showtell.Caption_  # noqa: B018


def test_every_error_is_exported_and_a_showtell_error():
    defined = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert defined <= set(showtell.__all__)
    assert all(issubclass(getattr(showtell, name), showtell.ShowtellError) for name in defined)
    assert issubclass(showtell.ConfigurationError, ValueError)


def test_a_program_that_uses_the_whole_api_passes_strict_type_checks():
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--follow-imports=silent", str(CLIENT)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_a_program_that_uses_the_whole_api_runs(showtell, tmp_path):
    showtell("tutorial-data", tmp_path / "shapes", "--images", 40)
    command = [sys.executable, str(CLIENT), str(EXAMPLES / "000000129648.jpg"), str(tmp_path / "shapes"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len({line.split("0.")[0] for line in lines[:5]}) == 1  # path, bytes and files give the same caption
    assert "skateboarder" in lines[0] and "no such file" in lines[7]
    assert lines[8:10] == ["True False", "True True"]
    assert "CIDEr" in lines[-1] and "images/" not in done.stderr
    # A library is quiet: the program has configured no logging.
    assert "epoch" not in done.stderr


def test_a_captioner_is_copied_at_any_time():
    captioner = showtell.Captioner.load()
    photos = sorted(EXAMPLES.glob("*.jpg"))
    copies = [copy.deepcopy(captioner), pickle.loads(pickle.dumps(captioner))]
    with ThreadPoolExecutor(1) as pool:
        captions = pool.submit(lambda: [result.captions[0] for result in captioner.caption(photos * 4)])
        while not captions.done():
            copies[2:] = [copy.copy(captioner), copy.deepcopy(captioner), pickle.loads(pickle.dumps(captioner))]
    expected = captions.result()[0]
    assert len(copies) == 5 and [other(photos[0]).text for other in copies] == [expected.text] * 5
    assert copy.deepcopy(expected) == pickle.loads(pickle.dumps(expected)) == expected


def test_a_captioner_that_was_used_works_in_other_processes():
    captioner = showtell.Captioner.load()
    photos = sorted(map(str, EXAMPLES.glob("*.jpg")))[:2]
    expected = [captioner(photo).text for photo in photos]
    # joblib and Ray send the captioner to new processes in the same way.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert [caption.text for caption in pool.map(captioner, photos)] == expected
