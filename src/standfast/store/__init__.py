"""Connections by role, migrations, and the SQL of our own schemas."""
