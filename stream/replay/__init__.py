"""History through the stage again: recorded signals, or recomputed ones."""
