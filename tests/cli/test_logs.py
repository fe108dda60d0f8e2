"""Log records on the command line."""

import logging
import subprocess
import sys

import pytest

from showtell.cli.logs import StderrHandler


@pytest.fixture(autouse=True)
def handler():
    logger, handler = logging.getLogger("showtell"), StderrHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_messages_start_with_their_level_except_for_info(capsys):
    logger = logging.getLogger("showtell.some.module")
    logger.debug("not printed")
    logger.info("12 images captioned")
    logger.warning("a.jpg: no caption")
    logger.error("b.jpg: cannot be read")
    assert capsys.readouterr().err == "12 images captioned\nwarning: a.jpg: no caption\nerror: b.jpg: cannot be read\n"


def test_control_characters_of_file_names_are_escaped(capsys):
    logging.getLogger("showtell").warning("%s: not an image", "a\n\x1b[31mb.jpg")
    assert capsys.readouterr().err == "warning: a\\n\\x1b[31mb.jpg: not an image\n"


def test_the_library_is_quiet_by_default():
    program = "import logging, showtell; logging.getLogger('showtell.inference').error('lost')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == done.stdout == ""


def test_verbose_adds_the_traceback_of_an_error(showtell):
    assert showtell("info", "nowhere", status=2).stderr.count("\n") == 1
    command = [sys.executable, "-m", "showtell", "--verbose", "info", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere: ") and "Traceback" in done.stderr and "BundleError" in done.stderr
