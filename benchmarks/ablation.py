"""What each part of the recipe brings: trains one row of the table after the other, and writes the table.

    python benchmarks/ablation.py --images Flicker8k_Dataset --captions Flickr8k.token.txt [RUN ..]

Every row is `showtell train` with options, `showtell export --int8` and `showtell evaluate --meteor`; the commands are
printed as they run. What is done is kept in `--runs`, so that an interrupted table goes on where it stopped. The table
in docs/results.md is written anew from all rows that are there; those of the runs that are named on the command line,
or else all, are made first.
"""

import argparse
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "flickr8k.toml"
RESULTS = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of the table -->\n"
PHASES = {"cross-entropy": ".", "fine-tuning": "fine-tuning", "self-critical": "self-critical"}

FIRST_PHASE = ["--fine-tuning-epochs", "0", "--self-critical-epochs", "0"]
SHARP = [*FIRST_PHASE, "--label-smoothing", "0"]
POOLED = [*SHARP, "--decoder", "show_and_tell"]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: what it shows.
        run: its training run, which may have several phases; of an ensemble, a name of its own.
        options: what differs from the recipe.
        phase: the phase that is shown.
        members: of an ensemble, the runs and phases that it joins.
    """

    name: str
    run: str
    options: tuple[str, ...] = ()
    phase: str = "cross-entropy"
    members: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """A name for files."""
        return f"{self.run}-{self.phase}"


def three_seeds(name: str, run: str, options: list[str]) -> list[Row]:
    """Return a row for each of three seeds."""
    return [Row(f"{name}, seed {seed}", f"{run}-{seed}", (*options, "--seed", str(seed))) for seed in range(3)]


ROWS = [
    *three_seeds("pooled LSTM", "pooled", POOLED),
    *three_seeds("attention", "attention", SHARP),
    Row("attention + label smoothing", "flickr8k"),
    Row("the same + scheduled sampling", "scheduled", (*FIRST_PHASE, "--scheduled-sampling", "0.25")),
    Row("the same + word vectors (GloVe, 50)", "vectors", (*FIRST_PHASE, "--embedding-size", "50")),
    Row("the same + a second language LSTM", "deeper", (*FIRST_PHASE, "--layers", "2")),
    Row("attention + label smoothing + fine-tuning", "flickr8k", phase="fine-tuning"),
    Row("the same + self-critical", "flickr8k", phase="self-critical"),
    Row("ensemble of 3 (attention, seeds 0 to 2)", "ensemble", members=tuple(f"attention-{n}" for n in range(3))),
]


class Table:
    """Makes the rows, and writes them.

    Args:
        arguments: the command line's.
    """

    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.runs: Path = arguments.runs

    def prepare(self) -> None:
        """Index the captions and extract the features, once for all rows."""
        images, captions = self.arguments.images, self.runs / "captions.h5"
        if not captions.exists():
            showtell("prepare", "-o", captions, "--captions", self.arguments.captions, "--min-count", 4)
        for name, options in (("pooled", []), ("grid", ["--grid"])):
            if not (self.runs / f"{name}.npy").exists():
                showtell("extract", images, "-o", self.runs / f"{name}.npy", *options)

    def make(self, row: Row) -> None:
        """Train, export and score what a row still lacks."""
        for member in ROWS:
            if member.run in row.members:
                self.make(member)
        bundles = [self.bundle(f"{member}-cross-entropy") for member in row.members]
        if not bundles:
            bundles = [self.bundle(row.key)]
            if not bundles[0].exists():
                self.train(row)
                showtell("export", self.runs / row.run, "-o", bundles[0], "--int8", "--phase", row.phase)
        if not self.scores(row).exists():
            data = ("--captions", self.arguments.captions, "--images", self.arguments.images, "--split", "dev")
            showtell("evaluate", *bundles, *data, "--meteor", "-o", self.scores(row).parent)

    def train(self, row: Row) -> None:
        """Train the run of a row, or go on with it."""
        folder = self.runs / row.run
        if (folder / "settings.json").exists():
            showtell("train", "-o", folder, "--resume")
            return
        features = self.runs / ("pooled.npy" if "show_and_tell" in row.options else "grid.npy")
        vectors = ("--word-vectors", self.arguments.word_vectors) if row.run == "vectors" else ()
        data = ("--captions", self.runs / "captions.h5", "--features", features, "--images", self.arguments.images)
        showtell("train", "-o", folder, "--recipe", RECIPE, *row.options, *vectors, *data)

    def bundle(self, key: str) -> Path:
        """Return where a bundle is kept."""
        return self.runs / "bundles" / key

    def scores(self, row: Row) -> Path:
        """Return where a row's scores are kept."""
        return self.runs / "scores" / row.key / "scores.json"

    def lines(self) -> list[str]:
        """Return the table in Markdown, a line for each row that is there."""
        titles = ["model", *FIGURES, "parameters", "MB", "CPU minutes"]
        lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
        for row in ROWS:
            if self.scores(row).exists():
                scores = json.loads(self.scores(row).read_text())["scores"]
                cells = [row.name, *(form.format(scores[name]) for name, form in FIGURES.items()), *self.costs(row)]
                lines.append("| " + " | ".join(cells) + " |")
        return lines

    def costs(self, row: Row) -> list[str]:
        """Return parameters in millions, megabytes and CPU minutes of a row; of a run that was resumed, the least."""
        keys = [f"{member}-cross-entropy" for member in row.members] or [row.key]
        size = sum(file.stat().st_size for key in keys for file in self.bundle(key).iterdir())
        parameters = minutes = 0.0
        more = ""
        for run in row.members or (row.run,):
            for phase, folder in PHASES.items():
                history = [*map(json.loads, (self.runs / run / folder / "history.jsonl").read_text().splitlines())]
                minutes += sum(record["cpu_seconds"] for record in history) / 60
                if any(record.get("resumed") for record in history):
                    more = " or more"
                if phase == row.phase:
                    break
            parameters += parameters_of(self.runs / run)
        return [f"{parameters / 1e6:.1f} M", f"{size / 1e6:.1f}", f"{minutes:.0f}{more}"]

    def write(self) -> None:
        """Put the table between its marks in docs/results.md."""
        text = RESULTS.read_text()
        before, rest = text.split(BEGIN)
        RESULTS.write_text(before + BEGIN + "\n".join(self.lines()) + "\n" + END + rest.split(END)[1])


FIGURES = {
    **{f"BLEU-{order}": "{:.1f}" for order in range(1, 5)},
    "METEOR": "{:.1f}",
    "ROUGE-L": "{:.1f}",
    "CIDEr": "{:.1f}",
    "distinct captions": "{:.0f} %",
    "with a repeated bigram": "{:.1f} %",
}


def parameters_of(run: Path) -> int:
    """Return how many numbers the decoder of a run has learnt."""
    from showtell.training import require_keras

    require_keras("counting parameters")
    from showtell.training.phases import load_best_decoder
    from showtell.training.run import Run

    return int(load_best_decoder(Run.open(run)).count_params())


def showtell(*arguments: object) -> None:
    """Run a command, printed first."""
    words = list(map(str, arguments))
    print("$ showtell", shlex.join(words), flush=True)
    if status := subprocess.run([sys.executable, "-m", "showtell", *words], check=False).returncode:
        sys.exit(status)


def main() -> None:
    """Make the rows that are asked for, then the table of all that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wanted", metavar="RUN", nargs="*", help=f"of {', '.join(dict.fromkeys(r.run for r in ROWS))}")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--captions", type=Path, required=True)
    parser.add_argument("--word-vectors", type=Path, default=Path("glove.6B.50d.txt"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    table = Table(parser.parse_args())
    table.prepare()
    for row in ROWS:
        if not table.arguments.wanted or row.run in table.arguments.wanted:
            table.make(row)
            table.write()


if __name__ == "__main__":
    main()
