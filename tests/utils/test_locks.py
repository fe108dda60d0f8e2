"""Locks between processes."""

import errno
import fcntl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from showtell.errors import ConfigurationError
from showtell.utils.locks import exclusive_lock

HOLD_A_LOCK = """
import os, sys
from showtell.utils.files import atomic_write
from showtell.utils.locks import exclusive_lock

with exclusive_lock(sys.argv[1]), atomic_write(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("locked", flush=True)
    sys.stdin.read()
"""


def hold(output):
    """Start a process that holds the lock until it is killed."""
    command = [sys.executable, "-c", HOLD_A_LOCK, str(output)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    output = tmp_path / "new" / "captions.jsonl"
    process = hold(output)
    message = f"{output}: another showtell process is writing it; wait until it ends, or choose another output"
    with pytest.raises(ConfigurationError) as error, exclusive_lock(output):
        pass
    assert str(error.value) == message
    assert len(list(output.parent.glob(".*.tmp.jsonl"))) == 1
    process.kill()
    process.communicate()
    with exclusive_lock(output):
        assert not list(output.parent.glob(".*.tmp*"))
    assert not list(output.parent.iterdir())


def test_temporary_files_in_use_stay(tmp_path):
    process = hold(tmp_path / "a.json")
    with exclusive_lock(tmp_path / "b.json"):
        assert list(tmp_path.glob(".a.*.tmp.json"))
    process.stdin.close()
    assert process.wait() == 0 and (tmp_path / "a.json").read_text() == "half"


def test_only_one_of_many_threads_holds_the_lock(tmp_path):
    active, most = [], []

    def work(number):
        while True:
            with suppress(ConfigurationError), exclusive_lock(tmp_path / "out"):
                active.append(number)
                most.append(len(active))
                time.sleep(0.01)
                active.remove(number)
                return

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert most == [1] * 8


def test_the_lock_is_released_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), exclusive_lock(tmp_path / "out"):
        raise ZeroDivisionError
    with exclusive_lock(tmp_path / "out"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_used_without_a_lock(tmp_path, monkeypatch, number):
    def fail(descriptor, operation):
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", fail)
    with exclusive_lock(tmp_path / "out"), exclusive_lock(tmp_path / "out"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_symbolic_link_to_itself_can_be_locked(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with exclusive_lock(tmp_path / "loop"):
        pass


def test_other_errors_of_the_lock_file_name_the_output(tmp_path):
    (tmp_path / ".out.lock").mkdir()
    with pytest.raises(OSError) as error, exclusive_lock(tmp_path / "out"):
        pass
    assert error.value.filename == str(tmp_path / "out")
