"""Symbols for texts that come without: a user's table of names, and where they stand in a text."""
