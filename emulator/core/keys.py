"""The API keys of an emulator."""


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
