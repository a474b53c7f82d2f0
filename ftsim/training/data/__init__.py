"""Data of a run: rows, the tokens and loss weights they become, and which are trained when."""
