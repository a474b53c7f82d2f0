"""`python -m ftsim` is the command `ftsim`."""

from ftsim.cli import main

main()
