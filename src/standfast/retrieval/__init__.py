"""Context retrieval: what the database knows about a ticket."""
