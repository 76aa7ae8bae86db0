"""Slot loops: admit, advance by one layer, decide, release. Read packed.py first."""
