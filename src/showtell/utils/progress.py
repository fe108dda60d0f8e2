"""Progress on screen: a bar on a terminal, now and then a line elsewhere; always on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def progress_bar(what: str, unit: str = "images") -> Iterator[Callable[..., None]]:
    """Show how far something is, with its rate and the time left.

    Args:
        what: what is being done, such as "extracting".
        unit: what is counted.

    Yields:
        A function to call with the number done, the number in all, and perhaps some more words to show.
    """
    if not sys.stderr.isatty():
        yield _lines(what, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[more]}"),
    )
    # Results that go elsewhere than to the terminal must not be drawn into, nor by, the bar.
    progress = Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty())
    with progress:
        task = progress.add_task(what, total=None, rate="", more="")
        began, first = time.monotonic(), None

        def advance(done: int, total: int, more: str = "") -> None:
            nonlocal first
            first = done if first is None else first
            rate = (done - first) / max(time.monotonic() - began, 1e-9)
            progress.update(task, completed=done, total=total, rate=f"{rate:.1f} {unit}/s", more=more)

        yield advance


def _lines(what: str, unit: str) -> Callable[..., None]:
    began = latest = time.monotonic()
    first: int | None = None

    def advance(done: int, total: int, more: str = "") -> None:
        nonlocal latest, first
        first = done if first is None else first
        now = time.monotonic()
        if now - latest < SECONDS_BETWEEN_LINES and done < total:
            return
        latest = now
        rate = (done - first) / max(now - began, 1e-9)
        left = f", {(total - done) / rate:.0f} s left" if rate > 0 and done < total else ""
        speed = f", {rate:.1f} {unit}/s" if rate > 0 else ""
        print(f"{what}: {done} of {total}{speed}{left}{more and f', {more}'}", file=sys.stderr, flush=True)

    return advance
