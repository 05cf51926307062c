"""`python -m standfast.cli` is `standfast`."""

from standfast.cli.program import main

main()
