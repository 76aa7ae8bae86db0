"""Instants, ranges and availability: in which order things could be known."""
