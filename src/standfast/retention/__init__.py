"""How long things are kept: what is removed of tickets that have ended, and what stays."""
