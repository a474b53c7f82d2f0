"""One line on the terminal while a search runs; nothing where nobody looks."""

import sys
from types import TracebackType
from typing import Self


class Progress:
    """Counts histories on the real standard error, past what pytest captures, if that is a terminal."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._played = 0
        stream = sys.__stderr__
        self._stream = stream if stream is not None and not stream.closed and stream.isatty() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def played(self, broken: int) -> None:
        """Note that one more history was played, and how many rules are known to be broken."""
        self._played += 1
        if self._stream is not None:
            told = f"checkpoint manager: {self._played} of {self._total} histories, {broken} rules broken"
            self._stream.write(f"\r\x1b[K{told}")
            self._stream.flush()
