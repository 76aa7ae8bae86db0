"""Instants, ranges and availability: the order in which things could be known."""
