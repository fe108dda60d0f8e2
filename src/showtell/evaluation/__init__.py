"""Evaluate a captioner, calibrate its confidence, and write reports.

Import from the modules: `evaluator`, `report`, `calibration` and `reliability`. They load ONNX Runtime.
"""
