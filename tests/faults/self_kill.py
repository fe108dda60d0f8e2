"""Run a showtell command that kills itself before its N-th change to the files of a folder. With N = 0, count changes.

python self_kill.py FOLDER N COMMAND ...
"""

import atexit
import os
import signal
import sys

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")

folder, kill_at = os.fsencode(sys.argv[1]), int(sys.argv[2])
changes = 0


def count_change(event, arguments):
    """Count an audit event if it changes a file of the folder."""
    global changes
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if not writes and event not in CHANGES:
        return
    if not isinstance(arguments[0], (str, bytes, os.PathLike)) or not os.fsencode(arguments[0]).startswith(folder):
        return
    changes += 1
    if changes == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(count_change)
if not kill_at:
    atexit.register(lambda: print(f"changes: {changes}", file=sys.stderr))
sys.argv = ["showtell", *sys.argv[3:]]

from showtell.cli import main  # noqa: E402

main()
