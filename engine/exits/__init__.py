"""When a text may leave: pure functions over per-slot state. Read policy.py first."""
