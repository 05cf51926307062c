"""Everything on one machine: real Temporal and PostgreSQL, our workers and the dashboard, supervised."""
