"""Benchmark of the engine and its peers, side by side in one run.

Read row.py, then measure.py.
"""
