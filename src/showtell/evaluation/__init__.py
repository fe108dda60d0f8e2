"""Scoring a captioner, calibrating its confidence, and writing reports."""

from showtell.evaluation.calibration import calibrate
from showtell.evaluation.evaluator import Evaluation, evaluate_captioner
from showtell.evaluation.reliability import Reliability, draw_reliability
from showtell.evaluation.report import write_report

__all__ = [
    "Evaluation",
    "Reliability",
    "calibrate",
    "draw_reliability",
    "evaluate_captioner",
    "write_report",
]
