"""Train, export and score one model for each row of the table in docs/results.md, and write the table.

    python benchmarks/ablation.py --images Flicker8k_Dataset --captions Flickr8k.token.txt [RUN ...]

Each row is `showtell train` with options, `showtell export --int8` and `showtell evaluate --meteor`; the commands are
printed. Results are kept in the folder of `--runs`. The same command resumes an interrupted table. With names of runs,
only these are trained; the table contains all rows with results.
"""

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from _measure import make_parser

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "flickr8k.toml"
PAGE = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of the table -->\n"
# Phase -> its folder in a run.
PHASES = {"cross-entropy": ".", "fine-tuning": "fine-tuning", "self-critical": "self-critical"}
# Metric in scores.json -> format in the table.
METRICS = {
    **{f"BLEU-{order}": "{:.1f}" for order in range(1, 5)},
    "METEOR": "{:.1f}",
    "ROUGE-L": "{:.1f}",
    "CIDEr": "{:.1f}",
    "distinct captions": "{:.0f} %",
    "with a repeated bigram": "{:.1f} %",
}

FIRST_PHASE = ["--fine-tuning-epochs", "0", "--self-critical-epochs", "0"]
NO_SMOOTHING = [*FIRST_PHASE, "--label-smoothing", "0"]
POOLED = [*NO_SMOOTHING, "--decoder", "show_and_tell"]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: name in the table.
        run: name of the training run, which may have several phases, or of the ensemble.
        options: options of `showtell train`.
        phase: the phase to score.
        members: the runs of an ensemble.
    """

    name: str
    run: str
    options: tuple[str, ...] = ()
    phase: str = "cross-entropy"
    members: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Name for files."""
        return f"{self.run}-{self.phase}"


def three_seeds(name: str, run: str, options: list[str]) -> list[Row]:
    """Return a row for each of three seeds."""
    return [Row(f"{name}, seed {seed}", f"{run}-{seed}", (*options, "--seed", str(seed))) for seed in range(3)]


ROWS = [
    *three_seeds("pooled LSTM", "pooled", POOLED),
    *three_seeds("attention", "attention", NO_SMOOTHING),
    Row("attention + label smoothing", "flickr8k"),
    Row("the same + scheduled sampling", "scheduled", (*FIRST_PHASE, "--scheduled-sampling", "0.25")),
    Row("the same + word vectors (GloVe, 50)", "vectors", (*FIRST_PHASE, "--embedding-size", "50")),
    Row("the same + a second language LSTM", "deeper", (*FIRST_PHASE, "--layers", "2")),
    Row("attention + label smoothing + fine-tuning", "flickr8k", phase="fine-tuning"),
    Row("the same + self-critical", "flickr8k", phase="self-critical"),
    Row("ensemble of 3 (attention, seeds 0 to 2)", "ensemble", members=tuple(f"attention-{n}" for n in range(3))),
]


@dataclass(frozen=True)
class Table:
    """Makes the rows and writes the table.

    Attributes:
        images: folder of the images.
        captions: caption file.
        word_vectors: file of GloVe vectors of size 50.
        runs: folder of runs, bundles and scores.
    """

    images: Path
    captions: Path
    word_vectors: Path
    runs: Path

    def prepare(self) -> None:
        """Encode the captions and extract the features, once for all rows."""
        captions = self.runs / "captions.h5"
        if not captions.exists():
            showtell("prepare", "-o", captions, "--captions", self.captions, "--min-count", 4)
        for name, options in (("pooled", []), ("grid", ["--grid"])):
            if not (self.runs / f"{name}.npy").exists():
                showtell("extract", self.images, "-o", self.runs / f"{name}.npy", *options)

    def make(self, row: Row) -> None:
        """Run the missing steps of a row: train, export, score."""
        for member in ROWS:
            if member.run in row.members:
                self.make(member)
        bundles = [self._bundle(f"{member}-cross-entropy") for member in row.members]
        if not bundles:
            bundles = [self._bundle(row.key)]
            if not bundles[0].exists():
                self._train(row)
                showtell("export", self.runs / row.run, "-o", bundles[0], "--int8", "--phase", row.phase)
        if not self._scores(row).exists():
            data = ("--captions", self.captions, "--images", self.images, "--split", "dev")
            showtell("evaluate", *bundles, *data, "--meteor", "-o", self._scores(row).parent)

    def write(self) -> None:
        """Replace the table in docs/results.md."""
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(before + BEGIN + "\n".join(self._lines()) + "\n" + END + after, encoding="utf-8")

    def _train(self, row: Row) -> None:
        """Train the run of a row, or resume it."""
        folder = self.runs / row.run
        if (folder / "settings.json").exists():
            showtell("train", "-o", folder, "--resume")
            return
        features = self.runs / ("pooled.npy" if "show_and_tell" in row.options else "grid.npy")
        vectors = ("--word-vectors", self.word_vectors) if row.run == "vectors" else ()
        data = ("--captions", self.runs / "captions.h5", "--features", features, "--images", self.images)
        showtell("train", "-o", folder, "--recipe", RECIPE, *row.options, *vectors, *data)

    def _bundle(self, key: str) -> Path:
        return self.runs / "bundles" / key

    def _scores(self, row: Row) -> Path:
        return self.runs / "scores" / row.key / "scores.json"

    def _lines(self) -> list[str]:
        """Return the lines of a Markdown table of all rows with scores."""
        titles = ["model", *METRICS, "parameters", "MB", "CPU minutes"]
        lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
        for row in ROWS:
            if self._scores(row).exists():
                scores = json.loads(self._scores(row).read_text())["scores"]
                cells = [row.name, *(form.format(scores[name]) for name, form in METRICS.items()), *self._costs(row)]
                lines.append("| " + " | ".join(cells) + " |")
        return lines

    def _costs(self, row: Row) -> list[str]:
        """Return parameters in millions, megabytes and CPU minutes. Minutes of resumed runs are a lower bound."""
        keys = [f"{member}-cross-entropy" for member in row.members] or [row.key]
        size = sum(file.stat().st_size for key in keys for file in self._bundle(key).iterdir())
        parameters = minutes = 0.0
        suffix = ""
        for run in row.members or (row.run,):
            for phase, folder in PHASES.items():
                history = [*map(json.loads, (self.runs / run / folder / "history.jsonl").read_text().splitlines())]
                minutes += sum(record["cpu_seconds"] for record in history) / 60
                if any(record.get("resumed") for record in history):
                    suffix = " or more"
                if phase == row.phase:
                    break
            parameters += count_parameters(self.runs / run)
        return [f"{parameters / 1e6:.1f} M", f"{size / 1e6:.1f}", f"{minutes:.0f}{suffix}"]


def count_parameters(run: Path) -> int:
    """Return the number of parameters of a run's decoder."""
    from showtell.training import require_keras

    require_keras("counting parameters")
    from showtell.training.phases import load_best_decoder
    from showtell.training.run import Run

    return int(load_best_decoder(Run.open(run)).count_params())


def showtell(*arguments: object) -> None:
    """Print a command and run it. Exit if it fails."""
    command = list(map(str, arguments))
    print("$ showtell", shlex.join(command), flush=True)
    if status := subprocess.run([sys.executable, "-m", "showtell", *command], check=False).returncode:
        sys.exit(status)


def main() -> None:
    """Make the rows and write the table after each."""
    runs = dict.fromkeys(row.run for row in ROWS)
    parser = make_parser(__doc__)
    parser.add_argument("names", metavar="RUN", nargs="*", help=f"of {', '.join(runs)}; default: all")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--captions", type=Path, required=True, help="caption file")
    parser.add_argument("--word-vectors", type=Path, default=Path("glove.6B.50d.txt"), help="default: %(default)s")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all results; default: %(default)s")
    arguments = parser.parse_args()
    table = Table(arguments.images, arguments.captions, arguments.word_vectors, arguments.runs)
    table.prepare()
    for row in ROWS:
        if not arguments.names or row.run in arguments.names:
            table.make(row)
            table.write()


if __name__ == "__main__":
    main()
