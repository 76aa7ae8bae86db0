"""The contract: every message that crosses Kafka. pydantic only; knows nobody."""
