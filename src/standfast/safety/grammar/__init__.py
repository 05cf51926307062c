"""What a statement says, by PostgreSQL's own grammar. Nothing else knows the parser, or the trees that it makes."""
