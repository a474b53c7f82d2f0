"""`ftsim demo`: the main job, carried out and checked.

Two ordinary recipe scripts, LoRA and full-parameter, train under `ftsim run`; each training process is killed with
SIGKILL in the middle and run again. A third program does the same two runs without interruption. Then everything is
compared bit for bit, and the promoted models are opened by a Python that has never imported ftsim.
"""

from ftsim.tools.demo.run import show

__all__ = ["show"]
