"""Benchmarks of the Kafka stage: cost per step, and comparison with other stream consumers."""
