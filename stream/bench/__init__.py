"""`earlybird bench stage`: what the Kafka side costs, step by step, beside what others use for the same job."""
