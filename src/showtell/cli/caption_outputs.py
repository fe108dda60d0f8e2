"""The outputs of `showtell caption`: files that options choose, and standard output."""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from showtell.cli.options import exit_stack
from showtell.cli.streams import print_line
from showtell.errors import ConfigurationError
from showtell.inference.caption import Caption
from showtell.outputs import AnnotatedImages, AttentionMaps, CsvTable, JsonLines, Output, Record, Sidecars
from showtell.utils.locks import exclusive_lock

if TYPE_CHECKING:
    from showtell.drawing import Fonts


@dataclass(frozen=True)
class OutputOptions:
    """The output options of the command line."""

    as_json: bool = False
    jsonl: Path | None = None
    csv: Path | None = None
    spreadsheet_safe: bool = False
    sidecar: bool = False
    overwrite: bool = False
    annotate: Path | None = None
    attention: Path | None = None
    font: Path | None = None

    def check(self, has_attention: bool, n_best: int) -> None:
        """Raise ConfigurationError if options conflict with each other, the model or the number of captions."""
        if self.attention and not has_attention:
            raise ConfigurationError("--attention needs a model with attention; choose another one with --model")
        if self.font and not self.draws:
            raise ConfigurationError("--font has no effect without --annotate or --attention; add one of them")
        if self.jsonl and self.csv and os.path.realpath(self.jsonl) == os.path.realpath(self.csv):
            raise ConfigurationError(f"--jsonl and --csv are the same file, {self.csv}; choose two files")
        if self.spreadsheet_safe and not self.csv:
            raise ConfigurationError("--spreadsheet-safe has no effect without --csv; add it")
        if n_best > 1 and (self.csv or self.sidecar) and not self.jsonl:
            raise ConfigurationError(
                "--csv and --sidecar hold one caption per image; add --jsonl for --n-best captions"
            )

    @property
    def is_resumable(self) -> bool:
        """Whether captions are written to files that a later run continues, instead of being printed."""
        return bool(self.jsonl or self.csv or self.sidecar)

    @property
    def draws(self) -> bool:
        """Whether images are drawn."""
        return bool(self.annotate or self.attention)

    @cached_property
    def fonts(self) -> "Fonts":
        """The fonts of drawn images."""
        from showtell.drawing import Fonts

        return Fonts(self.font)

    def open(self, images: Sequence[Path], with_paths: bool) -> list[Output]:
        """Open the outputs, and lock their files until the command ends.

        Args:
            images: the images to caption.
            with_paths: print the path before each caption.
        """
        outputs: list[Output] = []
        if self.annotate:
            outputs.append(AnnotatedImages(self.annotate, self.fonts))
        if self.attention:
            outputs.append(AttentionMaps(self.attention, self.fonts))
        if self.sidecar:
            outputs.insert(0, Sidecars(map(str, images), self.overwrite))
        for path in filter(None, (self.jsonl, self.csv)):
            exit_stack.enter_context(exclusive_lock(path))
        if self.jsonl:
            outputs.append(JsonLines(self.jsonl, self.overwrite))
        if self.csv:
            outputs.append(CsvTable(self.csv, self.overwrite, self.spreadsheet_safe))
        outputs.append(PrintedJson() if self.as_json else PrintedText(with_paths, only_needs_review=self.is_resumable))
        return outputs

    def resume_hint(self) -> str:
        """Return how to resume after an interruption."""
        if not self.is_resumable:
            return "use --jsonl FILE to make a run resumable"
        if self.overwrite and self.sidecar:
            return "with --overwrite, the same command starts over"
        command = shlex.join(["showtell", *(word for word in sys.argv[1:] if word != "--overwrite")])
        return f"{'choose a new folder for the images and ' if self.draws else ''}resume with: {command}"


class PrintedText(Output):
    """Captions on standard output, one line each: the path, a tab, and the caption.

    Args:
        with_paths: print the path before each caption.
        only_needs_review: print only captions that need review.
    """

    def __init__(self, with_paths: bool, only_needs_review: bool):
        self._with_paths = with_paths
        self._only_needs_review = only_needs_review

    def add(self, record: Record, captions: Sequence[Caption] = ()) -> None:
        """Print the captions of one image."""
        needs_review = record.get("needs_review", False)
        if "error" in record or (self._only_needs_review and not needs_review):
            return
        path = [record["path"]] if self._with_paths else []
        mark = ["needs review"] if needs_review else []
        for caption in captions:
            print_line(*path, caption.text, *mark)


class PrintedJson(Output):
    """Records on standard output, as one JSON array."""

    def __init__(self) -> None:
        self._is_empty = True

    def add(self, record: Record, captions: Sequence[Caption] = ()) -> None:
        """Print one record."""
        print_line(f"{'[' if self._is_empty else ','} {json.dumps(record)}")
        self._is_empty = False

    def close(self) -> None:
        """Print the end of the array."""
        print_line("[]" if self._is_empty else "]")
