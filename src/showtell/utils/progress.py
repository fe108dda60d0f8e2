"""Progress on standard error: a bar on a terminal, otherwise a line every 30 seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 30.0
MIN_BAR_WIDTH = 60  # columns of the terminal; narrower ones have room for the counts only


@contextmanager
def progress_bar(task: str, unit: str = "images") -> Iterator[Callable[..., None]]:
    """Show the progress of a task, with its rate and the time left.

    Args:
        task: what is being done, such as "extracting".
        unit: what is counted.

    Yields:
        A function to call with the number of units done, the total, and optionally a text to show after them.
    """
    if not sys.stderr.isatty():
        yield _line_printer(task, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

    # Other output is printed above the bar by this console. Soft wrapping leaves line breaks to the terminal, so that
    # the file name of an error message can be copied.
    console = Console(stderr=True, soft_wrap=True)
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[extra]}"),
    ]
    if console.width >= MIN_BAR_WIDTH:
        columns[1:1] = [BarColumn()]
        columns[-1:-1] = [TimeRemainingColumn()]
    # Results that are redirected to a file must not pass through the console.
    progress = Progress(*columns, console=console, redirect_stdout=sys.stdout.isatty())
    with progress:
        console.show_cursor()  # a process that is killed could not show a hidden cursor again
        task_id = progress.add_task(task, total=None, rate="", extra="")
        start, first = time.monotonic(), None

        def advance(done: int, total: int, extra: str = "") -> None:
            nonlocal first
            first = done if first is None else first
            rate = (done - first) / max(time.monotonic() - start, 1e-9)
            progress.update(task_id, completed=done, total=total, rate=f"{rate:.1f} {unit}/s", extra=extra)

        yield advance


def _line_printer(task: str, unit: str) -> Callable[..., None]:
    start = latest = time.monotonic()
    first: int | None = None

    def advance(done: int, total: int, extra: str = "") -> None:
        nonlocal latest, first
        first = done if first is None else first
        now = time.monotonic()
        if now - latest < SECONDS_BETWEEN_LINES and done < total:
            return
        latest = now
        rate = (done - first) / max(now - start, 1e-9)
        remaining = f", {(total - done) / rate:.0f} s left" if rate > 0 and done < total else ""
        speed = f", {rate:.1f} {unit}/s" if rate > 0 else ""
        print(f"{task}: {done} of {total}{speed}{remaining}{extra and f', {extra}'}", file=sys.stderr, flush=True)

    return advance
