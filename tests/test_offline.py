"""Nothing connects to the network or leaves files in the home folder: the short version of tests/offline.py."""

import os
import subprocess
import sys

import offline
import pytest
from helpers import EXAMPLES

EXAMPLE = EXAMPLES / "000000129648.jpg"
needs_strace = pytest.mark.skipif(not offline.can_trace(), reason="strace is missing, or not allowed to trace")

# Python calls audit hooks for its own sockets. They cannot be removed.
REJECT_SOCKETS = """
import sys

def reject(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError(f"{event} {arguments}")

sys.addaudithook(reject)
"""
COMMAND_LINE = """
from showtell.cli import main

main()
"""


def run_without_sockets(program, *arguments):
    # A proxy would hide what happens on a machine without one.
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    command = [sys.executable, "-c", REJECT_SOCKETS + program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("options", [[], ["--json", "--n-best", "2"], ["--strategy", "greedy"]])
def test_captioning_opens_no_python_socket(options):
    done = run_without_sockets(COMMAND_LINE, "caption", str(EXAMPLE), *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "skateboarder" in done.stdout


def test_python_sockets_are_detected():
    done = run_without_sockets("import socket; socket.create_connection(('127.0.0.1', 9))")
    assert "RuntimeError: socket." in done.stderr


@needs_strace
@pytest.mark.parametrize("name", offline.CASES)
def test_command_makes_no_connection_and_leaves_no_file(name, tmp_path):
    assert offline.run_case(name, tmp_path / name) == []


@needs_strace
def test_telemetry_of_onnx_runtime_is_detected(tmp_path):
    findings = offline.run_case("caption", tmp_path / "caption", environment={"ORT_DISABLE_TELEMETRY": "0"})
    if not findings:
        pytest.skip("this version of ONNX Runtime has no telemetry")
    assert any("onnxruntime" in finding for finding in findings)


@needs_strace
@pytest.mark.parametrize(
    ("program", "finding"),
    [
        ("import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.1', 53))", "htons(53)"),
        ("import socket; socket.socket().connect_ex(('127.0.0.1', 9))", "htons(9)"),
        ("import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'a', ('127.0.0.1', 9))", "sendto"),
        ("import socket, contextlib\nwith contextlib.suppress(OSError): socket.gethostbyname('a.invalid')", "resolv"),
    ],
    ids=["name-server", "connection", "datagram", "look-up"],
)
def test_network_access_is_detected(program, finding, tmp_path):
    sandbox = offline.Sandbox(tmp_path / "sandbox")
    sandbox.run([sys.executable, "-c", program])
    assert any(finding in line for line in sandbox.findings)


@needs_strace
@pytest.mark.parametrize("address", [("127.0.0.1", 53), ("192.0.2.99", 9)], ids=["name-server", "other-machine"])
def test_network_access_in_a_cluster_is_detected(address, tmp_path):
    sandbox = offline.Sandbox(tmp_path / "sandbox")
    program = "import socket\nfor address in [('127.0.0.1', 9), {}]:\n    socket.socket(type=2).sendto(b'a', address)"
    sandbox.run([sys.executable, "-c", program.format(address)], cluster=True)
    (finding,) = sandbox.findings
    assert address[0] in finding


@needs_strace
def test_files_in_the_home_folder_are_detected(tmp_path):
    sandbox = offline.Sandbox(tmp_path / "sandbox")
    sandbox.run([sys.executable, "-c", "import pathlib; (pathlib.Path.home() / 'id').write_text('1')"])
    assert sandbox.files() == ["id"]
