"""Helpers without knowledge of captions: files, locks, threads, progress and signals."""
