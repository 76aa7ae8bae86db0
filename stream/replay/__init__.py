"""Replay of history: recorded signals, or texts recomputed by a model."""
