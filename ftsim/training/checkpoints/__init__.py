"""Checkpoints of a run: saved, resumed and promoted, with the control plane as the source of truth."""
