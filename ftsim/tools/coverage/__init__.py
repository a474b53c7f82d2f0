"""docs/coverage.md: what a public client can call, and what the emulator answers, found out by calling.

`python -m ftsim.tools.coverage [FILE]` calls everything against a light emulator and writes the page.
"""
