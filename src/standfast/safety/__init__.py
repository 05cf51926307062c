"""Safety: what a plan would do, measured; what speaks against it; and the verdict."""
