"""Print docs/command-line.md: every command with its arguments and options, from the program itself."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo

from showtell.cli import app

OPENING = """# The command line

`make docs` writes this page from the program; `showtell COMMAND --help` tells the same. In round brackets
at the end of a line is what holds unless you say otherwise.

Results go to standard output, everything else to standard error. The exit status is 0 if all is done, 1 if some inputs
failed and the others are done, 2 if nothing could be done, 130 after Ctrl-C.
"""
VALUES = {int: "NUMBER", float: "NUMBER", str: "TEXT", Path: "PATH"}


def plain(text: str) -> str:
    """Return a text that Markdown shows as it is, also in a table."""
    return re.sub(r"([<|`*]|\[(?=[^\]]*\]\())", r"\\\1", text)


def command_lines(name: str, function: Callable[..., Any]) -> Iterator[str]:
    """Yield what is to be said of a command."""
    parameters = list(inspect.signature(function).parameters.values())
    yield f"\n## showtell {name}\n"
    yield from (f"{plain(' '.join(part.split()))}\n" for part in (inspect.getdoc(function) or "").split("\n\n"))
    panels: dict[str | None, list[inspect.Parameter]] = {}
    for parameter in parameters:
        panels.setdefault(information(parameter).rich_help_panel, []).append(parameter)
    for panel, members in panels.items():
        if panel:
            yield f"\n**{plain(panel)}**\n"
        yield "| | |\n|---|---|"
        for parameter in members:
            yield f"| `{heading(parameter)}` | {plain(meaning(parameter))} |"


def information(parameter: inspect.Parameter) -> ArgumentInfo | OptionInfo:
    """Return what typer was told of a parameter."""
    return next(part for part in parameter.annotation.__metadata__ if isinstance(part, ArgumentInfo | OptionInfo))


def kind_of(parameter: inspect.Parameter) -> tuple[Any, bool]:
    """Return the type of a parameter's values, and whether there may be several."""
    kind = parameter.annotation.__origin__
    if isinstance(kind, UnionType):
        kind = get_args(kind)[0]
    return (get_args(kind)[0], True) if get_origin(kind) is list else (kind, False)


def heading(parameter: inspect.Parameter) -> str:
    """Return how a parameter is written."""
    told, (kind, several) = information(parameter), kind_of(parameter)
    if isinstance(told, ArgumentInfo):
        name = told.metavar or parameter.name.upper()
        return f"{name} .." if several else name if parameter.default is parameter.empty else f"[{name}]"
    dashed = parameter.name.replace("_", "-")
    # In Annotated, the first name that is given to typer.Option takes the place of the default.
    given = [*([told.default] if isinstance(told.default, str) else ()), *(told.param_decls or ())]
    names = ", ".join(given or [f"--{dashed}/--no-{dashed}" if kind is bool else f"--{dashed}"]).replace("/", ", ")
    value = (told.metavar or VALUES.get(kind, "NAME")).replace("|", " or ")
    return names if kind is bool else f"{names} {value}"


def meaning(parameter: inspect.Parameter) -> str:
    """Return what a parameter is for."""
    told, (kind, _) = information(parameter), kind_of(parameter)
    parts = [told.help or ""]
    if get_origin(kind) is Literal:
        parts.append(f"One of {', '.join(get_args(kind))}.")
    if isinstance(told, OptionInfo) and parameter.default is parameter.empty:
        parts.append("Must be given.")
    elif parameter.default is True:
        parts.append(f"(--{parameter.name.replace('_', '-')})")
    elif kind is not bool and parameter.default not in (None, parameter.empty):
        parts.append(f"({parameter.default})")
    return " ".join(parts)


def reference() -> str:
    """Return the page."""
    lines = [OPENING]
    for command in app.registered_commands:
        function = command.callback
        if function is not None:
            lines += command_lines(command.name or function.__name__, function)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
