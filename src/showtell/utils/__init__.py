"""Files, locks, threads, progress and signals."""
