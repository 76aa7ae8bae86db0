"""Training of models for this engine: data, network, strategies, loop. Read loop.py first."""
