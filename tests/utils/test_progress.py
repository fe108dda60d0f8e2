"""Progress on a terminal and in a log file."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

PATH = "/".join(["photos of a long journey"] * 12) + "/IMG [1] 2026-10-12.jpg"
PROGRAM = """
import logging, sys
from showtell.cli.logs import install_handler
from showtell.utils.progress import progress_bar

install_handler()
with progress_bar("captioning") as advance:
    advance(0, 12)
    logging.getLogger("showtell").warning("%s: not an image", sys.argv[1])
    print(f"{sys.argv[1]}: a dog", flush=True)
    advance(12, 12, "extra")
"""


def screen_of(width: int, program: str, *arguments: str) -> str:
    """Run a program on a terminal with this number of columns; return everything that it prints."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm"}
    )
    os.close(theirs)
    screen = b""
    try:
        while part := os.read(ours, 65536):
            screen += part
    except OSError:  # how Linux reports that the other end is closed
        pass
    os.close(ours)
    assert process.wait(60) == 0, screen
    return screen.decode()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_long_line_above_the_bar_is_not_broken(width):
    screen = screen_of(width, PROGRAM, PATH)
    assert f"warning: {PATH}: not an image\r\n" in screen
    assert f"{PATH}: a dog\r\n" in screen


def test_the_cursor_is_visible_while_the_bar_is_shown():
    screen = screen_of(80, PROGRAM, "a.jpg")
    assert screen.rindex("\x1b[?25h", 0, screen.index("not an image")) > screen.rindex("\x1b[?25l")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_counts_and_rate_are_not_truncated(width):
    screen = screen_of(width, PROGRAM, "a.jpg")
    assert "12/12" in screen and "images/s" in screen and "captioning" in screen
    assert ("━" in screen) == (width >= 60)


def test_redirected_output_gets_lines(tmp_path):
    done = subprocess.run([sys.executable, "-c", PROGRAM, "a.jpg"], capture_output=True, text=True)
    warning, line = done.stderr.splitlines()
    assert warning == "warning: a.jpg: not an image"
    assert line.startswith("captioning: 12 of 12, ") and line.endswith(" images/s, extra")
    assert done.stdout == "a.jpg: a dog\n"
