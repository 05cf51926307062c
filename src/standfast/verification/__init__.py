"""What `standfast audit verify` does: the audit chain against itself, the ledgers, and Temporal's histories."""
