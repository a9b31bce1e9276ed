"""Training: one loop that every model shares, and one file per model."""
