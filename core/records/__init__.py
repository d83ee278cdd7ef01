"""Record batches of format v2: what Kafka stores on disk and sends on the wire, byte for byte."""
