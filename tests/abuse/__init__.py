"""Limits of what one request may cost: made at run time from sizes, sent to our own emulator only."""
