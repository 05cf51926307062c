"""Durable AI agents that may touch production data."""
