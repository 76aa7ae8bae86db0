"""Signals in the shapes that other libraries expect.

Each file imports its library only when it is itself imported.
"""
