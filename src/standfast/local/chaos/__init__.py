"""`standfast chaos`: faults on purpose in a local set-up of its own, while tickets run, and the proof that all held."""
