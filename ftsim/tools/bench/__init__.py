"""`ftsim bench`: what the emulator costs, as ratios measured in one run.

Each measurement alternates both sides, A B A B ..., in one process, and divides medians: a busy machine slows both. The
bare side is what a good engineer would write without any server: the same model, the same bytes, the same durability.
"""

from ftsim.tools.bench.report import show

__all__ = ["show"]
