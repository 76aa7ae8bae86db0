"""The slot loop: admit, advance by one layer, decide, release. Read packed.py first."""
