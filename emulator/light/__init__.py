"""A backend without torch and without a model, for tests of a client: real files of every kind, numbers by arithmetic.

What it computes is a distribution over four letters that does not look at the context: four numbers are the weights.
They are trained by real gradients and a real AdamW, saved, loaded, promoted, hot-loaded and sampled from, so that
order, repetition and resumption show in the numbers, and equal calls give equal answers. It says nothing about
whether a model would learn, and no library opens its files as a model; whatever needs one is refused.
"""

from emulator.light.backend import LightBackend

__all__ = ["LightBackend"]
