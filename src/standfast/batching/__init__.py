"""Batches: a durable workflow that hands out tickets, the register of what became of them, and a client's part."""
