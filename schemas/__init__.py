"""The contract: every message that crosses Kafka. Needs only pydantic."""
