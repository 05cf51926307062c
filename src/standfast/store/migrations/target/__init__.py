"""The steps of the ledger's schema in a target."""
