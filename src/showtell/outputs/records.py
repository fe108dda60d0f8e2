"""The record of one image: what outputs write, as JSON or as a row of a table."""

from typing import NotRequired, TypedDict

from showtell.inference.caption import CaptionResult


class ScoredCaption(TypedDict):
    """One of several captions of an image, with its natural log-probability and its score."""

    caption: str
    log_prob: float
    score: float


class Record(TypedDict):
    """The result of captioning one image: either `caption` or `error`, and further values if known."""

    path: str
    caption: NotRequired[str]
    confidence: NotRequired[float]
    needs_review: NotRequired[bool]
    captions: NotRequired[list[ScoredCaption]]
    error: NotRequired[str]


def make_record(result: CaptionResult, min_confidence: float | None = None, with_alternatives: bool = False) -> Record:
    """Return the record of a result.

    Args:
        result: the captions of an image that was passed as a path, or its error.
        min_confidence: if given, the record has `needs_review`: whether the confidence is lower.
        with_alternatives: add all captions of the image as `captions`.
    """
    path = str(result.source)
    if result.error is not None:
        return {"path": path, "error": str(result.error)}
    best = result.captions[0]
    record: Record = {"path": path, "caption": best.text}
    if best.confidence is not None:
        record["confidence"] = round(best.confidence, 3)
    if min_confidence is not None:
        record["needs_review"] = (best.confidence or 0) < min_confidence
    if with_alternatives:
        record["captions"] = [
            {"caption": caption.text, "log_prob": round(caption.log_prob, 4), "score": round(caption.score, 4)}
            for caption in result.captions
        ]
    return record
