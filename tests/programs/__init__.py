"""Whole programs as users write them, with the vendor's SDK and nothing of ours, run under `ftsim run`."""
