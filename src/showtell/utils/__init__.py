"""General helpers: files, locks, threads, progress and signals."""
