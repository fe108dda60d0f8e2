"""Training: the only part of showtell that imports Keras."""
