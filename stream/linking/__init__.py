"""Symbols for texts that have none, by a user's table of names."""
