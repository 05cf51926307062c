"""What Temporal stores of us: converted, encrypted, and readable again."""
