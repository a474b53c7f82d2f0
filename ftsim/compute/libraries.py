"""transformers and peft, imported once and by one thread: two at once break the lazy modules of transformers."""

import threading

_one_at_a_time = threading.Lock()


def load() -> None:
    """Import what models and adapters of other folders are opened with; seconds the first time."""
    with _one_at_a_time:
        import peft  # noqa: F401
        from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache  # noqa: F401
