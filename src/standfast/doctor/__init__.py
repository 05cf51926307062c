"""`standfast doctor`: looks for what would make an installation unsafe or slow to recover, and says what to do."""
