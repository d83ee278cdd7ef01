"""Tailrace: a Kafka-protocol event log for one host."""

__version__ = "0.1.0"
