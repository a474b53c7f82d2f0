"""The entries of docs/failures.md that no scenario reproduces, each with the reason."""

ABSENT: dict[str, str] = {}
