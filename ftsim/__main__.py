"""`python -m ftsim` is the command `ftsim`."""

from ftsim.cli.main import main

main()
