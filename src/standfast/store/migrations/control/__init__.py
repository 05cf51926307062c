"""The steps of the control schema."""
