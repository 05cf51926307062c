"""The schemas in numbered steps."""
