"""The messages of the Kafka protocol, one module an API; imported by key on first use (see apis.py)."""
