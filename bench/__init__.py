"""Benchmarks of Standfast on real services; see docs/benchmarks.md for what they said last."""
