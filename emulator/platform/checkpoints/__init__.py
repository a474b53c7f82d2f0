"""Checkpoint rows and the blobs behind them: saved, listed, found, promoted."""
