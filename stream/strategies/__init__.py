"""Signals in the shapes that other libraries want. Each file imports its library only when it is itself imported."""
