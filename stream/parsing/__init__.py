"""Parsing of raw records into items, or into the reason why one cannot be read."""
