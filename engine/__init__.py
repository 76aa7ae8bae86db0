"""The early-exit transformer and its slots: torch; no Kafka, no Redis, no environment, no wall clock in decisions."""
