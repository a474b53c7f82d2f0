"""Files that a trainer writes and reads: training state (dcp), full weights (hf), adapters (peft), deltas (delta)."""
