"""The early-exit transformer and its slots.

Uses torch; no Kafka, no Redis, no environment variables, no wall clock in decisions.
"""
