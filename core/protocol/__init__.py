"""The Kafka protocol: how messages are declared, compiled to straight-line Python, and framed."""
