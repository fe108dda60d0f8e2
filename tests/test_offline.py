"""Nothing at run time opens a connection."""

import os
import subprocess
import sys

import pytest
from helpers import EXAMPLES

from showtell.inference.bundle import DEFAULT_BUNDLE

EXAMPLE = EXAMPLES / "000000129648.jpg"

# An audit hook cannot be got round or taken away: it hears of sockets that native code of Python opens, too.
WITHOUT_SOCKETS = """
import sys

def refuse(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError(f"{event} {arguments}")

sys.addaudithook(refuse)
"""
CAPTION = """
from showtell.cli import main

main()
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Variables that name a proxy or a hub would hide what a plain machine does.
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    command = [sys.executable, "-c", WITHOUT_SOCKETS + program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("options", [[], ["--json", "--n-best", "2"], ["--strategy", "greedy"]])
def test_captioning_opens_no_socket(options):
    done = run(CAPTION, "caption", str(EXAMPLE), *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "skateboarder" in done.stdout


def test_evaluation_opens_no_socket(tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text(f"file_name,caption,split\n{EXAMPLE.name},a skateboarder does a trick,val\n")
    data = ("--captions", str(table), "--images", str(EXAMPLE.parent), "--split", "val")
    done = run(CAPTION, "evaluate", str(DEFAULT_BUNDLE), *data)
    assert done.returncode == 0, done.stderr
    assert "BLEU-1" in done.stdout


def test_a_socket_would_be_noticed():
    done = run("import socket; socket.create_connection(('127.0.0.1', 9))")
    assert "RuntimeError: socket." in done.stderr
