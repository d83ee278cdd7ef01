"""Cluster metadata: its records, the image they add up to, and what decides about them."""
