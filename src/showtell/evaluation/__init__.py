"""Scoring a captioner and calibrating its confidence."""
