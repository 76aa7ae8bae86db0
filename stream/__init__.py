"""The Kafka side: raw topics in, signals out."""
