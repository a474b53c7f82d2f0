"""Large libraries, imported as cheaply as they can be.

transformers and peft are imported by one thread: two at once break the lazy modules of transformers.
"""

import importlib
import sys
import threading
from types import ModuleType

_one_at_a_time = threading.Lock()
_META = "torch._meta_registrations"


def load() -> None:
    """Import what models and adapters of other folders are opened with; seconds the first time."""
    import_meta()
    with _one_at_a_time:
        import peft  # noqa: F401
        from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer, DynamicCache  # noqa: F401


def import_meta() -> None:
    """Import what torch knows of tensors without values, where `import_torch` has left it out."""
    with _one_at_a_time:
        importlib.import_module(_META)


def import_torch() -> None:
    """Import torch for a process of our own, in three quarters of the time.

    What torch knows of tensors without values (device "meta") is a quarter of its import, and no stand-in has any.
    `import_meta` imports it for whoever does. A process that is somebody else's has torch as it comes. Ours begins with
    one seed, where torch draws one: the random state is in every training state, and two runs save the same bytes.
    """
    if "torch" in sys.modules:
        return
    sys.modules[_META] = ModuleType(_META)
    try:
        import torch
    finally:
        del sys.modules[_META]
    vars(torch).pop("_meta_registrations", None)
    torch.manual_seed(0)
