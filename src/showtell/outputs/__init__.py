"""Where captions go: JSON Lines, CSV, sidecar files and pictures."""
