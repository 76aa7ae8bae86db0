"""Demo: an invented feed, its odd items with expected outcomes, and a whole stage."""
