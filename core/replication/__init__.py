"""Replicas of a partition: how followers get what their leader has, and when a record counts as committed."""
