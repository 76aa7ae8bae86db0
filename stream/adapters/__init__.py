"""Adapters for Kafka, Redis and files: the only home of third-party clients."""
