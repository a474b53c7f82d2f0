"""Trainer jobs: what one is asked to be, and its life."""
