"""Consumer processes that share one engine through shared memory (Linux)."""
