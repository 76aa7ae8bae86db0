"""Sentiment per symbol over windows. Pure."""
