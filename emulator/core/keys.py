"""The API keys of an emulator.

A key may carry the mark of the program that was given it, `KEY~MARK`: it is the same key, and what the program has
opened can be ended when it is gone.
"""

_SEPARATOR = "~"


def marked(key: str, program: str) -> str:
    """The key with the mark of a program."""
    return f"{key}{_SEPARATOR}{program}"


def parted(key: str) -> tuple[str, str]:
    """A key and the mark of a program behind it, "" for none."""
    bare, separator, program = key.rpartition(_SEPARATOR)
    return (bare, program) if separator else (key, "")


class Keys(dict[str, str]):
    """API keys and their accounts, the emulator's own key first; `retired` were good once and belong to nobody now."""

    def __init__(self, keys: dict[str, str]) -> None:
        super().__init__(keys)
        self.retired: set[str] = set()

    def renew(self, keys: dict[str, str]) -> None:
        """Retire every key and let these in instead."""
        self.retired.update(self.keys())
        self.clear()
        self.update(keys)
