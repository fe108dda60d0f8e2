"""Run a command of showtell that kills itself before its N-th change to the files of a folder; with 0, count them.

python killed.py FOLDER N COMMAND ..
"""

import atexit
import os
import signal
import sys

folder, at = os.fsencode(sys.argv[1]), int(sys.argv[2])
changes = 0


def watch(event, arguments):
    global changes
    if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
        return
    if not isinstance(arguments[0], (str, bytes, os.PathLike)) or not os.fsencode(arguments[0]).startswith(folder):
        return
    if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return
    changes += 1
    if changes == at:
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(watch)
if not at:
    atexit.register(lambda: print(f"changes: {changes}", file=sys.stderr))
sys.argv = ["showtell", *sys.argv[3:]]

from showtell.cli import main  # noqa: E402

main()
