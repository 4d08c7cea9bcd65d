"""Kafka: how to connect to it, what a client needs there, and why it fails."""
