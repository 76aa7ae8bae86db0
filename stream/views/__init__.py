"""Sentiment per symbol over windows: a pure core, and the service that hosts it."""
