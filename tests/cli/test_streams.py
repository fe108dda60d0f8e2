"""What reaches the standard streams: no control characters, and one line of error if a stream cannot be used."""

import ast
import os
import shlex
import socket
import subprocess
import sys
from dataclasses import replace

import httpx
import pytest
from helpers import EXAMPLES, ROOT
from PIL import Image

from showtell.inference.bundle import Bundle

PHOTO = EXAMPLES / "000000126107.jpg"
# Clears the screen; sets the title; a C1 code; overwrites the line; reverses the text; separates lines.
HOSTILE = "a\x1b[2J\x1b]0;b\x07\x9b31m\r\u202ec\u2066\u2028d"


def run_shell(line, **options):
    """Run a line of a shell in which `showtell` is the command."""
    setup = f'showtell() {{ "{sys.executable}" -m showtell "$@"; }}\n'
    return subprocess.run(["bash", "-c", setup + line], capture_output=True, text=True, timeout=60, **options)


def assert_harmless(*texts):
    for text in texts:
        assert all(line.isprintable() for line in text.replace("\t", "").split("\n")), text


def test_file_names_reach_the_terminal_without_control_characters(showtell, looking_bundle, tmp_path):
    for name in (f"{HOSTILE}.png", "plain.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / f"{HOSTILE}-broken.png").write_bytes(b"no")
    command = ["caption", tmp_path, "--model", looking_bundle]
    done = showtell(*command, status=1)
    assert_harmless(done.stdout, done.stderr)
    assert len(done.stdout.splitlines()) == 2 and "a\\x1b[2J" in done.stdout and "\\u202ec" in done.stderr
    assert_harmless(showtell(*command, "--json", status=1).stdout)
    assert_harmless(showtell("caption", tmp_path / HOSTILE, status=2).stderr)
    verbose = [sys.executable, "-m", "showtell", "--verbose", "info", str(tmp_path / HOSTILE)]
    assert_harmless(subprocess.run(verbose, capture_output=True, text=True, timeout=60).stderr)
    assert_harmless(showtell("extract", tmp_path, "-o", tmp_path / f"{HOSTILE}.bin", status=2).stderr)


def test_texts_of_a_bundle_reach_the_terminal_without_control_characters(looking_bundle, tmp_path):
    bundle = Bundle.load(looking_bundle)
    hostile = replace(
        bundle,
        decoder={"kind": HOSTILE, HOSTILE: 1},
        precision=HOSTILE,
        scores={HOSTILE: {HOSTILE: 1.0}},
        data_license=HOSTILE,
        encoder=replace(bundle.encoder, name=HOSTILE, fingerprint=HOSTILE),
    )
    hostile.save(tmp_path / "hostile")
    for command in (["info"], ["caption", PHOTO, "--model"]):
        arguments = [sys.executable, "-m", "showtell", *map(str, [*command, tmp_path / "hostile"])]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
        assert_harmless(done.stdout, done.stderr)
        assert "Traceback" not in done.stderr and done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["caption", f"--{HOSTILE}"], [HOSTILE], ["caption", "x", "--strategy", HOSTILE], ["serve", "--port", HOSTILE]],
)
def test_wrong_arguments_are_one_line_without_control_characters(showtell, arguments):
    done = showtell(*arguments, status=2)
    assert_harmless(done.stderr)
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ") and "--help`." in done.stderr
    assert done.stdout == ""


def test_every_line_of_the_command_line_is_printed_by_one_function():
    allowed = {("streams.py", "print_line"), ("logs.py", "emit")}
    found = set()
    for path in (ROOT / "src" / "showtell" / "cli").glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
                found |= {(path.name, function.name)} if "print" in names else set()
    assert found == allowed


@pytest.mark.parametrize(
    ("line", "status", "output", "error"),
    [
        ("showtell caption {photo} --model {bundle} >&-", 2, "", "error: standard output is closed\n"),
        ("showtell --help >&-", 2, "", "error: standard output is closed\n"),
        ("showtell caption {photo} --model {bundle} 2>&-", 0, "a dog\n", ""),
        ("showtell caption nowhere --model {bundle} 2>&-", 2, "", ""),
        ("showtell caption - --model {bundle} <&-", 2, "", "error: no paths on standard input\n"),
        ("showtell caption {photo} --model {bundle} --jsonl {folder}/a.jsonl <&- >&- 2>&-", 0, "", ""),
        ("showtell caption nowhere --model {bundle} 2>/dev/full", 2, "", ""),
        ("showtell caption {photo} --model {bundle} | true", 0, "", ""),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="uses bash")
def test_closed_streams_are_an_error_of_one_line_or_no_error(looking_bundle, tmp_path, line, status, output, error):
    done = run_shell(line.format(photo=PHOTO, bundle=looking_bundle, folder=tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (status, output, error)


@pytest.mark.skipif(os.name != "posix", reason="uses bash")
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_the_server_runs_with_closed_streams(looking_bundle, closed):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    arguments = ["serve", "--model", looking_bundle, "--port", address.split(":")[1]]
    command = shlex.join([sys.executable, "-m", "showtell", *map(str, arguments)])
    process = subprocess.Popen(["bash", "-c", f"exec {command} {closed}"])
    try:
        client = httpx.Client(transport=httpx.HTTPTransport(retries=8), timeout=60)  # waits up to a minute in total
        response = client.post(f"http://{address}/v1/captions", files={"files": ("a.jpg", PHOTO.read_bytes())})
        assert response.json()["captions"][0]["caption"] == "a dog"
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_the_files_of_a_command_never_get_the_number_of_a_closed_stream(looking_bundle, tmp_path):
    lines = tmp_path / "a.jsonl"
    run_shell(f"showtell caption {PHOTO} nowhere --model {looking_bundle} --jsonl {lines} <&- >&- 2>&-")
    assert [line.startswith('{"path": ') for line in lines.read_text().splitlines()] == [True, True]
