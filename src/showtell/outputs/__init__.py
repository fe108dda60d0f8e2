"""Where captions go: JSON Lines, CSV, sidecar files and annotated images. `CaptionJob` writes them."""

from showtell.outputs.annotated_images import AnnotatedImages, AttentionMaps
from showtell.outputs.caption_job import CaptionJob
from showtell.outputs.csv_table import CsvTable
from showtell.outputs.json_lines import JsonLines
from showtell.outputs.output import Output, ResumableOutput
from showtell.outputs.records import Record, ScoredCaption, make_record
from showtell.outputs.sidecars import Sidecars

__all__ = [
    "AnnotatedImages",
    "AttentionMaps",
    "CaptionJob",
    "CsvTable",
    "JsonLines",
    "Output",
    "Record",
    "ResumableOutput",
    "ScoredCaption",
    "Sidecars",
    "make_record",
]
