"""The model card of a bundle."""

from datetime import date

from showtell.inference.bundle import Bundle
from showtell.metrics import Scores
from showtell.training.run import Run

DEFAULT_INTRODUCTION = """\
# A captioner trained with showtell

It describes images like those that it was trained on, in the style of their captions. On other images its captions are
guesses."""

METRICS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider", "distinct", "repeated_bigrams")


def select_metrics(scores: Scores) -> dict[str, float]:
    """Return the scores that a bundle records."""
    return {name: getattr(scores, name) for name in METRICS}


def write_model_card(run: Run, bundle: Bundle, scores: Scores | None, introduction: str | None) -> str:
    """Return the model card of a bundle in Markdown.

    Args:
        run: the run of the bundle.
        bundle: the bundle.
        scores: scores on the validation images; None if there are none.
        introduction: the start of the card, such as training data and limitations; None for a general one.
    """
    sections = [(introduction or DEFAULT_INTRODUCTION).rstrip()]
    if bundle.data_license:
        sections += [f"## Terms of the training data\n\n{bundle.data_license}"]
    sections += ["## Scores", *_describe_scores(bundle, scores), "## Settings", *_describe_settings(run, bundle)]
    return "\n\n".join(sections) + "\n"


def _describe_scores(bundle: Bundle, scores: Scores | None) -> list[str]:
    if scores is None:
        return ["This bundle has no scores, because there were no validation captions."]
    options = bundle.search_options
    return [
        f"Measured on {date.today().isoformat()} on {len(scores.per_image)} validation images, with beam width "
        f"{options.beam_size} and length penalty {options.length_penalty:g}. `showtell evaluate` reproduces them.",
        _table("metric", {name: f"{value:.2f}" for name, value in select_metrics(scores).items()}),
    ]


def _describe_settings(run: Run, bundle: Bundle) -> list[str]:
    settings = {name: str(value) for section in run.recipe.to_dict().values() for name, value in section.items()}
    return [
        f"Encoder: {bundle.encoder}. Vocabulary: {len(run.vocabulary)} {run.vocabulary.unit}. Precision: "
        f"{bundle.precision}.",
        _table("setting", settings),
    ]


def _table(title: str, rows: dict[str, str]) -> str:
    lines = [f"| {title} | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    return "\n".join(lines)
