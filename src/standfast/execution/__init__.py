"""Execution: a plan's change, its ledger row and its images, in one transaction, exactly once."""
