"""Sampling by vLLM, in a process of its own: the same replica, another engine."""
