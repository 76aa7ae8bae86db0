"""Exit policies: pure functions over per-slot state. Read policy.py first."""
