"""Values that Hypothesis draws beside clients: a thread of theirs that uses `random` is no fault of a strategy.

Hypothesis looks at the state of the global generator before and after a draw, and says that the strategy used it. Where
warnings are errors, a test would end as flaky at a moment that tells nothing of what it tests.
"""

import contextlib
import warnings
from collections.abc import Iterator

import pytest

MESSAGE = "Do not use the .random. module inside strategies"


@contextlib.contextmanager
def beside_clients() -> Iterator[None]:
    """Let the message through inside."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", MESSAGE)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let it through in tests with an emulator."""
    for item in items:
        if "fireworks_emulator" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.filterwarnings(f"ignore:{MESSAGE}"))
